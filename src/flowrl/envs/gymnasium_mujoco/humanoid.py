"""Humanoid: a body on two legs that is paid for getting along x and for staying up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import GymnasiumConstants, compiled, control_step, scatter
from flowrl.envs.simulation.mujoco_batch import Simulation

UNSEEN = 2  # positions, x and y, that are left out of the observation
ROOT = 6  # degrees of freedom of the root, which no actuator drives


@dataclass(frozen=True, kw_only=True)
class HumanoidConstants(GymnasiumConstants):
    """Humanoid's numbers."""

    forward_reward: float = 1.25  # per m/s
    control_price: float = 0.1  # reward lost per squared unit of action
    contact_price: float = 5e-7  # and per squared unit of outer force on its bodies, …
    most_contact_cost: float = 10.0  # … but no more than this
    healthy_height: tuple[float, float] = (1.0, 2.0)  # m, of the torso
    healthy_reward: float = 5.0  # per control step


HUMANOID = HumanoidConstants(model="humanoid", substeps=5, start_noise=0.01, start_velocity="uniform")


class Humanoid:
    """Observation: positions but x and y, velocities, inertias and velocities of all bodies, joint torques, and
    outer forces on all bodies.

    Reward: 1.25 Δx/Δt of the centre of mass + 5 while healthy - 0.1 Σ action² - 5e-7 Σ force², this last at most
    10. What is derived from the state is the last substep's, as Gymnasium reads it. The episode is terminated
    where the torso leaves its heights.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()
    reads_forces: ClassVar = True

    @staticmethod
    def build(constants: HumanoidConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: HumanoidConstants) -> None:
        self.simulation, self.constants = simulation, constants
        self.ctrl, qpos = simulation.bind("ctrl"), simulation.bind("qpos")
        self.height = qpos[:, 2]
        self.forces = simulation.external_forces().flatten(1)
        self.seen = {
            "position": qpos[:, UNSEEN:],
            "velocity": simulation.bind("qvel"),
            "inertia": simulation.latest("cinert").flatten(1)[:, 10:],  # of all bodies but the world
            "body_velocity": simulation.latest("cvel").flatten(1)[:, 6:],
            "torque": simulation.latest("qfrc_actuator")[:, ROOT:],
            "force": self.forces[:, 6:],
        }
        self.observation_parts = {name: part.shape[1] for name, part in self.seen.items()}
        masses = torch.from_numpy(simulation.model.body_mass.copy())
        self.share = masses / masses.sum()  # of each body in the centre of mass
        self.body_x = simulation.latest("xipos")[:, :, 0]
        self.x_before = self.x()
        self.control_step = control_step(simulation, constants)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        scatter(self.simulation, self.constants, rows, random)

    def before(self) -> None:
        self.x_before = self.x()

    def x(self) -> Tensor:
        """Where (count,) along x the centre of mass is."""
        return (self.body_x * self.share).sum(1)

    def observation(self) -> Tensor:
        return torch.cat(tuple(self.seen.values()), dim=1)

    def reward(self) -> Tensor:
        numbers = self.constants
        speed = (self.x() - self.x_before) / self.control_step
        gain = numbers.forward_reward * speed + numbers.healthy_reward * self.healthy()
        contact = (numbers.contact_price * self.forces.square().sum(1)).clamp(max=numbers.most_contact_cost)
        return gain - (numbers.control_price * self.ctrl.square().sum(1) + contact)

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Where (count,) the torso is neither too low nor too high."""
        low, high = self.constants.healthy_height
        return (low < self.height) & (self.height < high)
