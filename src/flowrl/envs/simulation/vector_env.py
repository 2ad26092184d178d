"""Many episodes of a task as one Gymnasium vector environment, with a second interface of torch tensors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.arguments import at_least_one
from flowrl.envs.simulation.protocol import Image
from flowrl.envs.simulation.task_runner import StepResult, TaskRunner, one_thread
from flowrl.envs.state_encoding import as_arrays, as_tensors
from flowrl.envs.tensors import TensorStep

Observation = NDArray[np.floating[Any]]  # (…, observation)


def observation_space(runner: TaskRunner) -> spaces.Box:
    """Return the space of one observation: unbounded, in the simulation's precision."""
    precision = torch.empty(0, dtype=runner.simulation.dtype).numpy().dtype.type
    return spaces.Box(-np.inf, np.inf, (runner.observation_size,), precision)


def action_space(runner: TaskRunner) -> spaces.Box:
    """Return the space of one action: the actuators' ranges, to which MuJoCo clamps."""
    low, high = runner.simulation.model.actuator_ctrlrange.astype(np.float32).T
    return spaces.Box(low, high, dtype=np.float32)


class TaskVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """The episodes of `runner` stepped together, with SAME_STEP autoreset.

    An episode ends where the task terminates or truncates it, or is truncated after `max_episode_steps` (None: the
    task's own number). It is reset in the step that ended it: its row of the observation is the first of the next
    episode, `info["final_obs"]` holds the last observation of the old one (None for the others), and
    `info["final_info"]` the task's report of it. One random generator serves all rows. An action is held for
    `action_repeat` control steps, or until its episode ends, and their rewards are summed. Pictures are `height` x
    `width` from the model's `camera`, a name or a number (None: the task's own).

    `reset_tensors` and `step_tensors` do the same without NumPy; `reset` and `step` convert their results.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    measures: tuple[str, ...] = ()  # names of numbers in `final_info` that evaluations average

    def __init__(
        self,
        runner: TaskRunner,
        max_episode_steps: int | None = None,
        action_repeat: int = 1,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
    ) -> None:
        self.runner = runner
        self.action_repeat = at_least_one("action_repeat", action_repeat)
        self.metadata = self.metadata | {"render_fps": runner.control_rate / action_repeat}
        self.num_envs = runner.count
        if max_episode_steps is None:
            max_episode_steps = runner.constants.episode_steps
        self.max_episode_steps = at_least_one("max_episode_steps", max_episode_steps)
        self.render_mode = render_mode
        self.picture = drawable(runner, height, width, camera)
        self.single_observation_space = observation_space(runner)
        self.single_action_space = action_space(runner)
        self.observation_space = batch_space(self.single_observation_space, runner.count)
        self.action_space = batch_space(self.single_action_space, runner.count)
        self._no_obs = runner.simulation.constant(np.empty((0, runner.observation_size)))  # of no episodes that ended

    @property
    def device(self) -> torch.device:
        """Where the tensors of `reset_tensors` and `step_tensors` are."""
        return self.runner.simulation.device

    @property
    def simulator(self) -> str:
        """The physics engine: `mujoco` or `warp`."""
        return getattr(self.runner.simulation, "engine", "mujoco")

    @property
    def interface_names(self) -> dict[str, Any]:
        """Sizes of the parts of an observation by name, the names of the actuators, and seconds between actions."""
        model = self.runner.simulation.model
        return {
            "observation_parts": dict(self.runner.task.observation_parts),
            "action_names": [model.actuator(number).name or str(number) for number in range(model.nu)],
            "control_dt": self.runner.task.control_timestep * self.action_repeat,
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        if options:
            raise UsageError(f"reset takes no options here, not {', '.join(options)}: it resets all rows.")
        return self.reset_tensors(seed).cpu().numpy(), {}

    def reset_tensors(self, seed: int | None = None) -> Tensor:
        """Begin a new episode in every row and return the observations (count, observation).

        `seed` seeds the random generator; None continues it, or seeds it at random in the first reset.
        """
        super().reset(seed=seed)
        return self.runner.begin(self.np_random, reseed=seed is not None)

    def stagger(self) -> NDArray[np.int64]:
        """Set the elapsed steps of each running episode to a random number, so that the time limit does not truncate
        all of them at once; returns those numbers (num_envs,)."""
        elapsed = self.np_random.integers(0, self.max_episode_steps, self.num_envs)
        self.runner.elapsed.copy_(torch.from_numpy(elapsed))
        return elapsed

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        step = self.step_tensors(torch.from_numpy(np.array(actions)))
        returned = (step.obs, step.reward, step.terminated, step.truncated)
        obs, reward, terminated, truncated = (tensor.cpu().numpy() for tensor in returned)
        return obs, reward, terminated.copy(), truncated, self._infos(step) if len(step.ended) else {}

    def _infos(self, step: TensorStep) -> dict[str, Any]:
        """Return Gymnasium's info about the episodes that ended, with a row per environment and a mask per entry."""
        rows = step.ended.cpu().numpy()
        ended = np.zeros(self.num_envs, dtype=np.bool_)
        ended[rows] = True
        final_obs = np.full(self.num_envs, None, dtype=object)
        final_obs[rows] = np.fromiter(step.final_obs.cpu().numpy(), dtype=object, count=len(rows))
        final_info: dict[str, Any] = {}
        for name, tensor in step.final_info.items():
            values = tensor.cpu().numpy()
            final_info[name] = np.zeros((self.num_envs, *values.shape[1:]), dtype=values.dtype)
            final_info[name][rows] = values
            final_info[f"_{name}"] = ended.copy()
        infos = {"final_obs": final_obs, "_final_obs": ended, "final_info": final_info}
        return infos | {"_final_info": ended.copy()}

    def step_tensors(self, actions: Tensor) -> TensorStep:
        """Apply `actions` (count, action) for `action_repeat` control steps, and reset the episodes that ended.

        Raises ValueError for an action that is not finite or has another shape.
        """
        with one_thread():
            outcome = self._control_step(actions)
            ended = self._either(outcome.terminated, outcome.truncated)
            reports = [self._report(ended)]
            for _ in range(self.action_repeat - 1):
                if ended.all():
                    break
                later = self._control_step(actions)
                outcome = _accumulated(outcome, later, ~ended)
                ended_now = (later.terminated | later.truncated) & ~ended
                reports.append(self._report(ended_now))
                ended = ended | ended_now
            rows, final_info = _merged(reports)
            obs, final_obs = outcome.observation, self._no_obs
            if len(rows):
                final_obs = obs[rows]
                obs[rows] = self.runner.reset(rows)
        return TensorStep(obs, outcome.reward, outcome.terminated, outcome.truncated, rows, final_obs, final_info)

    def _control_step(self, actions: Tensor) -> StepResult:
        outcome = self.runner.step(actions)
        at_limit = self.runner.elapsed >= self.max_episode_steps
        return outcome._replace(truncated=self._either(outcome.truncated, at_limit))

    def _either(self, flags: Tensor, others: Tensor) -> Tensor:
        """Compute `flags | others` (count,); quicker where a task has left `flags` at their default."""
        return others if flags is self.runner.task.never else flags | others

    def _report(self, ended: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the rows that have just `ended` (count,) with the task's report and the last pictures of them.

        Gymnasium's SyncVectorEnv reports the pictures of single environments likewise.
        """
        if not ended.any():  # in most steps, and quicker than to list no rows
            return self.runner.all_rows[:0], {}
        rows = ended.nonzero().flatten()
        report = self.runner.task.report(rows)
        if (pictures := self.render()) is not None:
            report = report | {"render": torch.from_numpy(np.stack(pictures)).to(rows.device)[rows]}
        return rows, report

    def render(self) -> tuple[Image, ...] | None:
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.runner.render(row, *self.picture) for row in range(self.num_envs))

    def state(self) -> dict[str, Any]:
        """Copy everything that the next steps depend on, as NumPy arrays: simulations, elapsed steps, generators."""
        random = copy.deepcopy(self.np_random)
        return {"arena": as_arrays(self.runner.state()), "random": random, "seeded": self.runner.seeded}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of an environment with the same options and `num_envs`."""
        self.runner.restore(as_tensors(state["arena"]))
        self._np_random = copy.deepcopy(state["random"])
        self.runner.seeded = state["seeded"]

    def close_extras(self, **kwargs: Any) -> None:
        self.runner.simulation.close()


def _accumulated(earlier: StepResult, later: StepResult, running: Tensor) -> StepResult:
    """Add `later` to `earlier` in the rows that were still `running` (count,) bool."""
    return StepResult(
        torch.where(running[:, None], later.observation, earlier.observation),
        torch.where(running, earlier.reward + later.reward, earlier.reward),
        earlier.terminated | (running & later.terminated),
        earlier.truncated | (running & later.truncated),
    )


def _merged(reports: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Join reports of different rows into one, in ascending order of the rows."""
    if len(reports) == 1:
        return reports[0]
    rows, order = torch.cat([rows for rows, _ in reports]).sort()
    filled = [report for _, report in reports if report]
    names = filled[0] if filled else ()
    return rows, {name: torch.cat([report[name] for report in filled])[order] for name in names}


def drawable(runner: TaskRunner, height: int, width: int, camera: int | str | None) -> tuple[int, int, int | str]:
    """Return height, width and camera of the pictures; raises UsageError for a size or a camera that does not exist.

    None is the task's own camera. The camera 0 of a model without cameras is the free one, -1.
    """
    model = runner.simulation.model
    names = [model.camera(number).name for number in range(model.ncam)]
    camera = runner.constants.camera if camera is None else camera
    if camera == 0 and not names:
        camera = -1
    numbered = isinstance(camera, int) and not isinstance(camera, bool) and -1 <= camera < model.ncam
    if not numbered and camera not in names:
        raise UsageError(
            f"there is no camera {camera!r}.{did_you_mean(str(camera), names)} There are: {', '.join([*names, '-1'])} "
            "(the free one), by name or by number from 0 on."
        )
    return at_least_one("height", height), at_least_one("width", width), camera
