"""PointMass: push a ball to the middle of an arena (dm_control `point_mass`, `easy`)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import quadratic, tolerance
from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import uniform

PROFILES = {
    "dmc": DMControlConstants(timestep=0.02, substeps=1),
    "playground": DMControlConstants(timestep=0.02, substeps=1, implicit_damping=False, iterations=1, ls_iterations=4),
}


class PointMass(DMControlTask[DMControlConstants]):
    """Push a ball to the middle of an arena."""

    model = "point_mass"
    facts: ClassVar = {
        "start": "anywhere in the arena, at rest",
        "observation": "position in x and y from the target in the middle, velocity",
        "reward": "near the target · small control, (4 + mean tolerance of the controls)/5",
    }

    def __init__(self, simulation: Simulation, constants: DMControlConstants) -> None:
        super().__init__(simulation, constants)
        self.low, self.high = simulation.constant(simulation.model.jnt_range).T
        self.target_radius = float(simulation.model.geom("target").size[0])

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        self.qpos[rows] = uniform(self.low, self.high, len(rows), random)

    def reward(self) -> Tensor:
        distance = torch.linalg.vector_norm(self.qpos, dim=1)  # the target is where both joints are at 0
        near = tolerance(distance, (0, self.target_radius), margin=self.target_radius)
        small_control = tolerance(self.ctrl, margin=1, sigmoid=quadratic, value_at_margin=0).mean(1)
        return near * ((small_control + 4) / 5)
