"""Gymnasium's two views of a control task: one environment, and many stepped together."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from flowrl.envs.arena import Arena
from flowrl.envs.batched import BatchedVectorEnv, Observation, action_space, observation_space, seed_from
from flowrl.envs.simulation import Image
from flowrl.envs.suite import chosen


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
        self.arena = Arena(*chosen(task, profile), count=1, threads=1)
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
        observation, reward, terminated, truncated = self.arena.step(np.asarray(action))
        return observation[0].numpy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Image | None:
        return self.arena.render(0, *self.picture) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arena.close()


class SuiteVectorEnv(BatchedVectorEnv):
    """`num_envs` environments of a control task stepped together; options as in `SuiteEnv`.

    Episodes have 1000 steps, or `max_episode_steps`. Results do not depend on `threads` (0: all cores).
    """

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
        arena = Arena(*chosen(task, profile), num_envs, threads)
        super().__init__(arena, max_episode_steps, render_mode, (height, width, camera))
