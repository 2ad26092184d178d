"""One episode of a task at a time as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from flowrl.envs.simulation.protocol import Image
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import Observation, action_space, drawable, observation_space


class TaskEnv(gymnasium.Env[Any, Any]):
    """The one episode of `runner`; the info is the task's report. Pictures are as in `TaskVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        runner: TaskRunner,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
    ) -> None:
        self.runner = runner
        self.metadata = self.metadata | {"render_fps": runner.control_rate}
        self.render_mode = render_mode
        self.picture = drawable(runner, height, width, camera)
        self.observation_space: spaces.Box = observation_space(runner)
        self.action_space: spaces.Box = action_space(runner)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        return self.runner.begin(self.np_random, reseed=seed is not None)[0].cpu().numpy(), {}

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated = self.runner.step(torch.from_numpy(np.array(action))[None])
        report = self.runner.task.report(self.runner.all_rows)
        info = {name: numbers[0].item() for name, numbers in report.items()}
        return observation[0].cpu().numpy(), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Image | None:
        return self.runner.render(0, *self.picture) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.runner.simulation.close()
