"""One episode of a task at a time as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from flowrl.envs.simulation.mujoco_batch import Image
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import (
    Observation,
    action_space,
    drawable,
    observation_space,
    seed_from,
)


class TaskEnv(gymnasium.Env[Any, Any]):
    """The one episode of `arena`; the info tells what the task does. `picture` is as in `TaskVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, arena: TaskRunner, render_mode: str | None, picture: tuple[int, int, int | str]
    ) -> None:
        self.arena = arena
        self.metadata = self.metadata | {"render_fps": arena.rate}
        self.render_mode = render_mode
        self.picture = drawable(arena, *picture)
        self.observation_space: spaces.Box = observation_space(arena)
        self.action_space: spaces.Box = action_space(arena)
        self.seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or not self.seeded:
            self.arena.seed(seed_from(self.np_random))
            self.seeded = True
        return self.arena.start(self.arena.everyone)[0].numpy(), {}

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated = self.arena.step(np.asarray(action)[None])
        told = {name: numbers[0].item() for name, numbers in self.arena.report(self.arena.everyone).items()}
        return observation[0].numpy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def render(self) -> Image | None:
        return self.arena.render(0, *self.picture) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arena.close()
