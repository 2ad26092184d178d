"""The shared part of these tasks: Gymnasium's model files, initial states around the default one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import gymnasium
import mujoco
import torch
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import WORKSPACE
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants, normal, uniform

MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


@dataclass(frozen=True, kw_only=True)
class GymnasiumConstants(TaskConstants):
    """The numbers of every one of these tasks."""

    model: str  # the file's name among Gymnasium's models
    start_noise: float  # positions start within this of the default state, and so do velocities, …
    start_velocity: Literal["uniform", "normal"]  # … or this is their standard deviation


C = TypeVar("C", bound=GymnasiumConstants)


class GymnasiumTask(SimulationTask[C]):
    """A task on one of Gymnasium's models."""

    @classmethod
    def build(cls, constants: C) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_file(str(MODELS / f"{constants.model}.xml"))
        spec.memory = WORKSPACE
        return spec.compile()

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        """Move `rows` from the default state to independent random ones around it."""
        noise = self.constants.start_noise
        self.qpos[rows] += noise * _within_one(self.qpos, len(rows), random)
        draw = _within_one if self.constants.start_velocity == "uniform" else normal
        self.qvel[rows] = noise * draw(self.qvel, len(rows), random)


def _within_one(like: Tensor, rows: int, random: torch.Generator) -> Tensor:
    """Draw (rows, size) numbers between -1 and 1 for the field `like` (count, size)."""
    one = like.new_ones(like.shape[1])
    return uniform(-one, one, rows, random)
