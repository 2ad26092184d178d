"""Gymnasium's two views of a control task: one environment, and many stepped together."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from flowrl.envs.simulation import Image
from flowrl.envs.suite.arena import Arena
from flowrl.errors import UsageError

Observation = NDArray[np.float64]  # (…, observation)


def observation_space(arena: Arena) -> spaces.Box:
    """What one environment shows: the task's numbers, unbounded and in double precision."""
    return spaces.Box(-np.inf, np.inf, (arena.observation_size,), np.float64)


def action_space(arena: Arena) -> spaces.Box:
    """What one environment takes; MuJoCo clamps what lies outside."""
    return spaces.Box(-1, 1, (arena.action_size,), np.float32)


def seed_from(random: np.random.Generator) -> int:
    """A seed for torch's generator, drawn from Gymnasium's."""
    return int(random.integers(2**63))


class SuiteEnv(gymnasium.Env[Any, Any]):
    """One environment of a control task.

    `profile` chooses its numbers: `dmc` for dm_control's, `playground` for those of MuJoCo Playground. An episode
    has no end of its own: Gymnasium's TimeLimit, which `gymnasium.make` puts around it, truncates it after 1000
    steps. Pictures are `height` x `width` from the model's `camera`, a name or a number.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        profile: str = "dmc",
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str = 0,
    ) -> None:
        self.arena = Arena(task, 1, profile, threads=1)
        self.metadata = self.metadata | {"render_fps": self.arena.rate}
        self.render_mode = render_mode
        self.picture = (height, width, camera)
        self.observation_space = observation_space(self.arena)
        self.action_space = action_space(self.arena)
        self.seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or not self.seeded:
            self.arena.random.manual_seed(seed_from(self.np_random))
            self.seeded = True
        return self.arena.start(self.arena.everyone)[0].numpy(), {}

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward = self.arena.step(np.asarray(action))
        return observation[0].numpy(), float(reward[0]), False, False, {}

    def render(self) -> Image | None:
        return self.arena.render(0, *self.picture) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arena.close()


class SuiteVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """`num_envs` environments of a control task stepped together, with SAME_STEP autoreset; options as in `SuiteEnv`.

    An episode is truncated after `max_episode_steps` (None: the task's own number, 1000) and reset in the step that
    finished it: its row of the observation is the new start, and `info["final_obs"]` holds the last observation
    of the old episode (None for the others). One random generator serves all rows, and results do not depend on
    `threads` (0: all cores).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        profile: str = "dmc",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str = 0,
        threads: int = 0,
    ) -> None:
        self.arena = Arena(task, num_envs, profile, threads)
        self.metadata = self.metadata | {"render_fps": self.arena.rate}
        self.num_envs = num_envs
        if max_episode_steps is None:
            max_episode_steps = self.arena.constants.episode_steps
        self.max_episode_steps = steps_allowed(max_episode_steps)
        self.render_mode = render_mode
        self.picture = (height, width, camera)
        self.single_observation_space = observation_space(self.arena)
        self.single_action_space = action_space(self.arena)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.seeded = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)  # type: ignore[arg-type]
        if seed is not None or not self.seeded:
            self.arena.random.manual_seed(seed_from(self.np_random))
            self.seeded = True
        return self.arena.start(self.arena.everyone).numpy(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        observation, reward = self.arena.step(np.asarray(actions))
        finished = self.arena.elapsed >= self.max_episode_steps
        infos: dict[str, Any] = {}
        if finished.any():
            rows = torch.from_numpy(np.flatnonzero(finished))
            infos = self._infos(finished, observation[rows].numpy())
            observation[rows] = self.arena.start(rows)
        return observation.numpy(), reward.numpy(), np.zeros(self.num_envs, dtype=np.bool_), finished, infos

    def _infos(self, finished: NDArray[np.bool_], last: Observation) -> dict[str, Any]:
        """The info dictionary that Gymnasium's SyncVectorEnv gives for the single environment, and the last picture."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        final_obs[finished] = np.fromiter(last, dtype=object, count=len(last))
        infos: dict[str, Any] = {"final_obs": final_obs, "_final_obs": finished.copy(), "final_info": {}}
        if (pictures := self.render()) is not None:
            infos["final_info"] = {"render": np.stack(pictures), "_render": finished.copy()}
        return infos | {"_final_info": finished.copy()}

    def render(self) -> tuple[Image, ...] | None:
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.arena.render(row, *self.picture) for row in range(self.num_envs))

    def state(self) -> dict[str, Any]:
        """Everything the next steps depend on: simulations, elapsed steps and the random generators."""
        return {"arena": self.arena.state(), "random": self.np_random, "seeded": self.seeded}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of an environment with the same options and `num_envs`."""
        self.arena.restore(state["arena"])
        self._np_random = state["random"]
        self.seeded = state["seeded"]

    def close_extras(self, **kwargs: Any) -> None:
        self.arena.close()


def steps_allowed(steps: int) -> int:
    """`steps` itself; raises UsageError unless it is a whole number of at least 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"max_episode_steps must be a whole number of at least 1, not {steps!r}.")
    return steps
