"""CartpoleBalance: keep a pole upright on a cart (dm_control `cartpole`, `balance`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import quadratic, tolerance
from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import normal, uniform


@dataclass(frozen=True, kw_only=True)
class CartpoleConstants(DMControlConstants):
    """CartpoleBalance's numbers."""

    start_position: float = 0.1  # m, the cart's start is within this of the middle
    start_angle: float = 0.034  # rad, the pole's start is within this of upright
    start_velocity: float = 0.01  # standard deviation, m/s and rad/s
    position_margin: float = 2.0  # m from the middle at which the reward for being there is down to a tenth
    velocity_margin: float = 5.0  # rad/s at which the reward for a calm pole is down to a tenth


PROFILES = {
    "dmc": CartpoleConstants(timestep=0.01, substeps=1, integrator="RK4"),
    "playground": CartpoleConstants(timestep=0.01, substeps=1, implicit_damping=False, iterations=1, ls_iterations=4),
}


class CartpoleBalance(DMControlTask[CartpoleConstants]):
    """Keep a pole upright on a cart."""

    model = "cartpole"
    facts: ClassVar = {
        "start": "cart near the middle, pole nearly upright, both nearly at rest",
        "observation": "the cart's position, cosine and sine of the pole's angle, both velocities",
        "reward": "upright · small control · small angular velocity · near the middle, each from its floor up to 1: "
        "(cos + 1)/2 · (4 + tolerance)/5 · (1 + tolerance)/2 · (1 + tolerance)/2",
    }

    def __init__(self, simulation: Simulation, constants: CartpoleConstants) -> None:
        super().__init__(simulation, constants)
        self.reach = simulation.constant([constants.start_position, constants.start_angle])

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        self.qpos[rows] = uniform(-self.reach, self.reach, len(rows), random)
        self.qvel[rows] = self.constants.start_velocity * normal(self.qvel, len(rows), random)

    def parts(self) -> dict[str, Tensor]:
        cart, angle = self.qpos[:, :1], self.qpos[:, 1:]
        return {"position": torch.cat((cart, angle.cos(), angle.sin()), dim=1), "velocity": self.qvel}

    def reward(self) -> Tensor:
        constants = self.constants
        upright = (self.qpos[:, 1].cos() + 1) / 2
        small_control = tolerance(self.ctrl[:, 0], margin=1, sigmoid=quadratic, value_at_margin=0)
        small_velocity = tolerance(self.qvel[:, 1], margin=constants.velocity_margin)
        centred = tolerance(self.qpos[:, 0], margin=constants.position_margin)
        return upright * ((4 + small_control) / 5) * ((1 + small_velocity) / 2) * ((1 + centred) / 2)
