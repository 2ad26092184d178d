"""Many episodes of a task as one Gymnasium vector environment."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.simulation.mujoco_batch import Image
from flowrl.envs.simulation.task_runner import StepResult, TaskRunner

Observation = NDArray[np.float64]  # (…, observation)


def observation_space(arena: TaskRunner) -> spaces.Box:
    """What one environment shows: the task's numbers, unbounded and in double precision."""
    return spaces.Box(-np.inf, np.inf, (arena.observation_size,), np.float64)


def action_space(arena: TaskRunner) -> spaces.Box:
    """What one environment takes: the actuators' ranges. MuJoCo clamps what lies outside."""
    low, high = arena.simulation.model.actuator_ctrlrange.astype(np.float32).T
    return spaces.Box(low, high, dtype=np.float32)


def seed_from(random: np.random.Generator) -> int:
    """A seed for torch's generator, drawn from Gymnasium's."""
    return int(random.integers(2**63))


class TaskVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """The episodes of `arena` stepped together, with SAME_STEP autoreset.

    An episode ends where the task terminates or truncates it, or is truncated after `max_episode_steps` (None: the
    task's own number). It is reset in the step that ended it: its row of the observation is the new start,
    `info["final_obs"]` holds the last observation of the old episode (None for the others), and
    `info["final_info"]` what the task tells of it. One random generator serves all rows. `picture` is the height and
    width of what `render` gives, and the camera. An action is held for `action_repeat` control steps, or until its
    episode ends, and their rewards are summed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        arena: TaskRunner,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        picture: tuple[int, int, int | str] = (240, 320, 0),
        action_repeat: int = 1,
    ) -> None:
        self.arena = arena
        self.action_repeat = at_least_one("action_repeat", action_repeat)
        self.metadata = self.metadata | {"render_fps": arena.rate / action_repeat}
        self.num_envs = arena.count
        if max_episode_steps is None:
            max_episode_steps = arena.constants.episode_steps
        self.max_episode_steps = at_least_one("max_episode_steps", max_episode_steps)
        self.render_mode = render_mode
        self.picture = drawable(arena, *picture)
        self.single_observation_space = observation_space(arena)
        self.single_action_space = action_space(arena)
        self.observation_space = batch_space(self.single_observation_space, arena.count)
        self.action_space = batch_space(self.single_action_space, arena.count)
        self.seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        if options:
            raise UsageError(f"reset takes no options here, not {', '.join(options)}: all rows begin anew.")
        super().reset(seed=seed)
        if seed is not None or not self.seeded:
            self.arena.seed(seed_from(self.np_random))
            self.seeded = True
        return self.arena.start(self.arena.everyone).numpy(), {}

    def stagger(self) -> NDArray[np.int64]:
        """Take each running episode to have run for a random number of steps, so that the time limit does not cut
        all of them at once; those numbers (num_envs,)."""
        self.arena.elapsed[:] = self.np_random.integers(0, self.max_episode_steps, self.num_envs)
        return self.arena.elapsed.copy()

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        final_info: dict[str, Any] = {}
        outcome = self._control_step(np.asarray(actions))
        ended = outcome.terminated | outcome.truncated
        self._report(ended, final_info)
        for _ in range(self.action_repeat - 1):
            if ended.all():
                break
            later = self._control_step(np.asarray(actions))
            outcome = _where(~ended, later, outcome)
            just = (later.terminated | later.truncated) & ~ended
            self._report(just, final_info)
            ended = ended | just
        infos: dict[str, Any] = {}
        shown = outcome.observation.numpy()  # torch would wake its threads for a few rows
        if ended.any():
            final_obs = np.full(self.num_envs, None, dtype=object)
            final_obs[ended] = np.fromiter(shown[ended], dtype=object, count=int(ended.sum()))
            infos = {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info}
            infos["_final_info"] = ended.copy()
            shown[ended] = self.arena.start(torch.from_numpy(np.flatnonzero(ended))).numpy()
        return shown, outcome.reward.numpy(), outcome.terminated, outcome.truncated, infos

    def _control_step(self, actions: NDArray[Any]) -> StepResult:
        outcome = self.arena.step(actions)
        return outcome._replace(truncated=outcome.truncated | (self.arena.elapsed >= self.max_episode_steps))

    def _report(self, ended: NDArray[np.bool_], final_info: dict[str, Any]) -> None:
        """Put what the task tells of the rows that have just `ended` into `final_info`, and their last picture, as
        Gymnasium's SyncVectorEnv does for the single environment."""
        if not ended.any():
            return
        told = self.arena.report(torch.from_numpy(np.flatnonzero(ended)))
        if (pictures := self.render()) is not None:
            told = told | {"render": np.stack(pictures)[ended]}
        for name, numbers in told.items():
            if name not in final_info:
                final_info[name] = np.zeros((self.num_envs, *numbers.shape[1:]), dtype=numbers.dtype)
                final_info[f"_{name}"] = np.zeros(self.num_envs, dtype=np.bool_)
            final_info[name][ended] = numbers
            final_info[f"_{name}"] |= ended

    def render(self) -> tuple[Image, ...] | None:
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.arena.render(row, *self.picture) for row in range(self.num_envs))

    def state(self) -> dict[str, Any]:
        """Everything the next steps depend on: simulations, elapsed steps and the random generators."""
        random = copy.deepcopy(self.np_random)
        return {"arena": self.arena.state(), "random": random, "seeded": self.seeded}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of an environment with the same options and `num_envs`."""
        self.arena.restore(state["arena"])
        self._np_random = copy.deepcopy(state["random"])
        self.seeded = state["seeded"]

    def close_extras(self, **kwargs: Any) -> None:
        self.arena.close()


def _where(running: NDArray[np.bool_], later: StepResult, earlier: StepResult) -> StepResult:
    """`earlier`, and in the rows still `running` what `later` added to it."""
    rows = torch.from_numpy(running)
    return StepResult(
        torch.where(rows[:, None], later.observation, earlier.observation),
        torch.where(rows, earlier.reward + later.reward, earlier.reward),
        earlier.terminated | (running & later.terminated),
        earlier.truncated | (running & later.truncated),
    )


def drawable(arena: TaskRunner, height: int, width: int, camera: int | str) -> tuple[int, int, int | str]:
    """What `render` is asked for; raises UsageError for a size or a camera that there is not.

    A model without cameras is seen by the free one, -1, in place of its first.
    """
    model = arena.simulation.model
    names = [model.camera(number).name for number in range(model.ncam)]
    if camera == 0 and not names:
        camera = -1
    numbered = isinstance(camera, int) and not isinstance(camera, bool) and -1 <= camera < model.ncam
    if not numbered and camera not in names:
        raise UsageError(
            f"there is no camera {camera!r}.{did_you_mean(str(camera), names)} There are: {', '.join([*names, '-1'])} "
            "(the free one), by name or by number from 0 on."
        )
    return at_least_one("height", height), at_least_one("width", width), camera


def at_least_one(name: str, value: int) -> int:
    """`value` itself; raises UsageError, with its `name`, unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}.")
    return value
