"""Ant: a body on four legs, rewarded for moving along x, minus costs of control and of contact forces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import GymnasiumConstants, GymnasiumTask
from flowrl.envs.simulation.protocol import Simulation

TORSO = 1
HIDDEN = 2  # positions, x and y, that are left out of the observation


@dataclass(frozen=True, kw_only=True)
class AntConstants(GymnasiumConstants):
    """Ant's numbers."""

    control_price: float = 0.5  # reward lost per squared unit of action
    contact_price: float = 5e-4  # and per squared unit of clipped force on its bodies
    most_force: float = 1.0  # N and N m, to which forces are clipped
    healthy_height: tuple[float, float] = (0.2, 1.0)  # m, of the torso; both still healthy
    healthy_reward: float = 1.0  # per control step


ANT = AntConstants(model="ant", substeps=5, start_noise=0.1, start_velocity="normal")


class Ant(GymnasiumTask[AntConstants]):
    """Walk along x on four legs.

    The torso's x is the last substep's, as Gymnasium reads it.
    """

    facts: ClassVar = {
        "observation": "positions but x and y, velocities, clipped outer forces on each body",
        "reward": "Δx/Δt of the torso + 1 while healthy - 0.5 Σ action² - 0.0005 Σ force²",
        "end": "the torso leaves its range of heights, or a number is not finite",
    }
    reads_forces = True

    def __init__(self, simulation: Simulation, constants: AntConstants) -> None:
        super().__init__(simulation, constants)
        self.forces = simulation.external_forces().flatten(1)  # the world's, which are zero, come first
        self.x = simulation.latest("xpos")[:, TORSO, 0]
        self.x_before = self.x.clone()
        self.observation_parts = {
            "position": self.qpos.shape[1] - HIDDEN,
            "velocity": self.qvel.shape[1],
            "force": self.forces.shape[1] - 6,
        }

    def before_step(self) -> None:
        self.x_before.copy_(self.x)

    def observation(self) -> Tensor:
        return torch.cat((self.qpos[:, HIDDEN:], self.qvel, self.clipped_forces()[:, 6:]), dim=1)

    def reward(self) -> Tensor:
        constants = self.constants
        gain = (self.x - self.x_before) / self.control_timestep + constants.healthy_reward * self.healthy()
        contact = constants.contact_price * self.clipped_forces().square().sum(1)
        return gain - (self.control_cost(constants.control_price) + contact)

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Return where (count,) the torso is neither too low nor too high, and all numbers are finite."""
        low, high = self.constants.healthy_height
        height = self.qpos[:, 2]
        finite = self.qpos.isfinite().all(1) & self.qvel.isfinite().all(1)
        return finite & (low <= height) & (height <= high)

    def clipped_forces(self) -> Tensor:
        """Return the forces (count, 6 · bodies), clipped."""
        return self.forces.clamp(-self.constants.most_force, self.constants.most_force)
