"""What these tasks have in common: Gymnasium's model files, starts around the default state, the price of control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium
import mujoco
import numpy as np
import torch
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import WORKSPACE, Simulation
from flowrl.envs.simulation.task import TaskConstants

MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


@dataclass(frozen=True, kw_only=True)
class GymnasiumConstants(TaskConstants):
    """The numbers that every one of these tasks has."""

    model: str  # the file's name among Gymnasium's models
    start_noise: float  # positions start within this of the default state, and so do velocities, …
    start_velocity: Literal["uniform", "normal"]  # … or this is their standard deviation


def compiled(constants: GymnasiumConstants) -> mujoco.MjModel:
    """Gymnasium's model."""
    spec = mujoco.MjSpec.from_file(str(MODELS / f"{constants.model}.xml"))
    spec.memory = WORKSPACE
    return spec.compile()


def control_step(simulation: Simulation, constants: GymnasiumConstants) -> float:
    """Seconds of one control step."""
    return float(simulation.model.opt.timestep * constants.substeps)


def scatter(
    simulation: Simulation, constants: GymnasiumConstants, rows: Tensor, random: torch.Generator
) -> None:
    """Move `rows` (rows,) from the default state to random ones around it, each number on its own."""
    qpos, qvel = simulation.bind("qpos"), simulation.bind("qvel")
    noise = constants.start_noise
    qpos[rows] += noise * uniform(len(rows), qpos.shape[1], random)
    if constants.start_velocity == "uniform":
        qvel[rows] = noise * uniform(len(rows), qvel.shape[1], random)
    else:
        qvel[rows] = noise * torch.randn(len(rows), qvel.shape[1], dtype=torch.float64, generator=random)


def uniform(rows: int, size: int, random: torch.Generator) -> Tensor:
    """Draws (rows, size) between -1 and 1; float64."""
    return 2 * torch.rand(rows, size, dtype=torch.float64, generator=random) - 1


def control_cost(weight: float, ctrl: Tensor) -> Tensor:
    """weight · Σ ctrl² (count,), rounded as Gymnasium rounds it: its actions are float32, and so is this sum.

    NumPy's sum, because the last bit depends on the order of the terms.
    """
    actions = ctrl.numpy().astype(np.float32)
    return torch.from_numpy(weight * np.square(actions).sum(axis=1))
