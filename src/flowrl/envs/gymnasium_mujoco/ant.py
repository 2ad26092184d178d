"""Ant: four legs that are paid for getting along x, less for control and for hitting the ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import (
    GymnasiumConstants,
    compiled,
    control_cost,
    control_step,
    scatter,
)
from flowrl.envs.simulation.mujoco_batch import Simulation

TORSO = 1
UNSEEN = 2  # positions, x and y, that are left out of the observation


@dataclass(frozen=True, kw_only=True)
class AntConstants(GymnasiumConstants):
    """Ant's numbers."""

    control_price: float = 0.5  # reward lost per squared unit of action
    contact_price: float = 5e-4  # and per squared unit of clipped force on its bodies
    most_force: float = 1.0  # N and N m, to which forces are clipped
    healthy_height: tuple[float, float] = (0.2, 1.0)  # m, of the torso; both still healthy
    healthy_reward: float = 1.0  # per control step


ANT = AntConstants(model="ant", substeps=5, start_noise=0.1, start_velocity="normal")


class Ant:
    """Observation: positions but x and y, velocities, clipped outer forces on each body.

    Reward: Δx/Δt of the torso + 1 while healthy - 0.5 Σ action² - 0.0005 Σ force². The torso's x is the last
    substep's, as Gymnasium reads it. The episode is terminated where the torso leaves its heights.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()
    reads_forces: ClassVar = True

    @staticmethod
    def build(constants: AntConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: AntConstants) -> None:
        self.simulation, self.constants = simulation, constants
        self.ctrl, self.qpos, self.qvel = (simulation.bind(field) for field in ("ctrl", "qpos", "qvel"))
        self.forces = simulation.external_forces().flatten(1)  # the world's, which are zero, come first
        self.x = simulation.latest("xpos")[:, TORSO, 0]
        self.x_before = self.x.clone()
        self.control_step = control_step(simulation, constants)
        self.observation_parts = {
            "position": self.qpos.shape[1] - UNSEEN,
            "velocity": self.qvel.shape[1],
            "force": self.forces.shape[1] - 6,
        }

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        scatter(self.simulation, self.constants, rows, random)

    def before(self) -> None:
        self.x_before.copy_(self.x)

    def observation(self) -> Tensor:
        return torch.cat((self.qpos[:, UNSEEN:], self.qvel, self.clipped()[:, 6:]), dim=1)

    def reward(self) -> Tensor:
        numbers = self.constants
        gain = (self.x - self.x_before) / self.control_step + numbers.healthy_reward * self.healthy()
        contact = numbers.contact_price * self.clipped().square().sum(1)
        return gain - (control_cost(numbers.control_price, self.ctrl) + contact)

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Where (count,) the torso is neither too low nor too high, and all numbers are finite."""
        low, high = self.constants.healthy_height
        height = self.qpos[:, 2]
        finite = self.qpos.isfinite().all(1) & self.qvel.isfinite().all(1)
        return finite & (low <= height) & (height <= high)

    def clipped(self) -> Tensor:
        """The forces (count, 6 · bodies), clipped."""
        return self.forces.clamp(-self.constants.most_force, self.constants.most_force)
