"""HalfCheetah, Swimmer, Hopper and Walker2d: planar bodies that are paid for getting along x, less for control."""

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


@dataclass(frozen=True, kw_only=True)
class LocomotionConstants(GymnasiumConstants):
    """The numbers of a runner."""

    control_price: float  # reward lost per squared unit of action
    unseen: int  # so many positions, of where it is in the world, are left out of the observation


@dataclass(frozen=True, kw_only=True)
class BalancedLocomotionConstants(LocomotionConstants):
    """The numbers of a runner that can fall."""

    healthy_height: tuple[float, float]  # m; below or above, it has fallen
    healthy_pitch: float  # rad either way
    healthy_state: float = torch.inf  # what every other position and every velocity must stay within
    healthy_reward: float = 1.0  # per control step
    seen_speed: float = 10.0  # m/s and rad/s, to which seen velocities are clipped


HALF_CHEETAH = LocomotionConstants(
    model="half_cheetah",
    substeps=5,
    start_noise=0.1,
    start_velocity="normal",
    control_price=0.1,
    unseen=1,
)
SWIMMER = LocomotionConstants(
    model="swimmer",
    substeps=4,
    start_noise=0.1,
    start_velocity="uniform",
    control_price=1e-4,
    unseen=2,
)
HOPPER = BalancedLocomotionConstants(
    model="hopper",
    substeps=4,
    start_noise=5e-3,
    start_velocity="uniform",
    control_price=1e-3,
    unseen=1,
    healthy_height=(0.7, torch.inf),
    healthy_pitch=0.2,
    healthy_state=100.0,
)
WALKER2D = BalancedLocomotionConstants(
    model="walker2d_v5",
    substeps=4,
    start_noise=5e-3,
    start_velocity="uniform",
    control_price=1e-3,
    unseen=1,
    healthy_height=(0.8, 2.0),
    healthy_pitch=1.0,
)


class Locomotion:
    """Observation: positions but the first `unseen`, all velocities. Reward: Δx/Δt - price · Σ action². No end."""

    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: LocomotionConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: LocomotionConstants) -> None:
        self.simulation, self.constants = simulation, constants
        self.ctrl, self.qvel = simulation.bind("ctrl"), simulation.bind("qvel")
        qpos = simulation.bind("qpos")
        self.x, self.pose = qpos[:, 0], qpos[:, constants.unseen :]
        self.observation_parts = {"position": self.pose.shape[1], "velocity": self.qvel.shape[1]}
        self.x_before = self.x.clone()
        self.control_step = control_step(simulation, constants)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        scatter(self.simulation, self.constants, rows, random)

    def before(self) -> None:
        self.x_before.copy_(self.x)

    def observation(self) -> Tensor:
        return torch.cat((self.pose, self.qvel), dim=1)

    def reward(self) -> Tensor:
        speed = (self.x - self.x_before) / self.control_step
        return speed - control_cost(self.constants.control_price, self.ctrl)


class BalancedLocomotion:
    """A runner that falls: the episode is terminated where height, pitch or another number leaves its range.

    Observation: as the runner's, velocities clipped. Reward: as the runner's, and 1 where it has not fallen.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: BalancedLocomotionConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: BalancedLocomotionConstants) -> None:
        self.runner, self.constants = Locomotion(simulation, constants), constants
        self.observation_parts = self.runner.observation_parts
        self.pose, self.qvel = self.runner.pose, self.runner.qvel
        (lowest, highest), pitch, most = (
            constants.healthy_height,
            constants.healthy_pitch,
            constants.healthy_state,
        )
        others = [most] * (self.pose.shape[1] + self.qvel.shape[1] - 2)
        self.low = torch.tensor([lowest, -pitch, *(-other for other in others)], dtype=torch.float64)
        self.high = torch.tensor([highest, pitch, *others], dtype=torch.float64)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        self.runner.reset(rows, random)

    def before(self) -> None:
        self.runner.before()

    def observation(self) -> Tensor:
        most = self.constants.seen_speed
        return torch.cat((self.pose, self.qvel.clamp(-most, most)), dim=1)

    def reward(self) -> Tensor:
        numbers, runner = self.constants, self.runner
        speed = (runner.x - runner.x_before) / runner.control_step
        healthy = numbers.healthy_reward * self.healthy()
        return (speed + healthy) - control_cost(numbers.control_price, runner.ctrl)

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Where (count,) it has not fallen; false for what is not a number."""
        state = torch.cat((self.pose, self.qvel), dim=1)  # height and pitch come first
        return ((self.low < state) & (state < self.high)).all(1)
