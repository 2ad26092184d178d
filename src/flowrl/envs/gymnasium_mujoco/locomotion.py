"""HalfCheetah, Swimmer, Hopper and Walker2d: planar bodies, rewarded for moving along x, minus a control cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import GymnasiumConstants, GymnasiumTask
from flowrl.envs.simulation.protocol import Simulation


@dataclass(frozen=True, kw_only=True)
class LocomotionConstants(GymnasiumConstants):
    """The numbers of a body that cannot fall."""

    control_price: float  # reward lost per squared unit of action
    hidden: int  # so many positions, its place in the world, are left out of the observation


@dataclass(frozen=True, kw_only=True)
class BalancedLocomotionConstants(LocomotionConstants):
    """The numbers of a body that can fall."""

    healthy_height: tuple[float, float]  # m; below or above, it has fallen
    healthy_pitch: float  # rad either way
    healthy_state: float = torch.inf  # bound of every other position and every velocity
    healthy_reward: float = 1.0  # per control step
    clipped_speed: float = 10.0  # m/s and rad/s, to which observed velocities are clipped


L = TypeVar("L", bound=LocomotionConstants)

HALF_CHEETAH = LocomotionConstants(
    model="half_cheetah", substeps=5, start_noise=0.1, start_velocity="normal", control_price=0.1, hidden=1
)
SWIMMER = LocomotionConstants(
    model="swimmer", substeps=4, start_noise=0.1, start_velocity="uniform", control_price=1e-4, hidden=2
)
HOPPER = BalancedLocomotionConstants(
    model="hopper",
    substeps=4,
    start_noise=5e-3,
    start_velocity="uniform",
    control_price=1e-3,
    hidden=1,
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
    hidden=1,
    healthy_height=(0.8, 2.0),
    healthy_pitch=1.0,
)


class Locomotion(GymnasiumTask[L]):
    """Move along x without falling."""

    facts: ClassVar = {
        "observation": "positions but the first `hidden`, all velocities",
        "reward": "Δx/Δt - price · Σ action²",
    }

    def __init__(self, simulation: Simulation, constants: L) -> None:
        super().__init__(simulation, constants)
        self.x, self.pose = self.qpos[:, 0], self.qpos[:, constants.hidden :]
        self.observation_parts = {"position": self.pose.shape[1], "velocity": self.qvel.shape[1]}
        self.x_before = self.x.clone()

    def before_step(self) -> None:
        self.x_before.copy_(self.x)

    def observation(self) -> Tensor:
        return torch.cat((self.pose, self.qvel), dim=1)

    def reward(self) -> Tensor:
        return self.speed() - self.control_cost(self.constants.control_price)

    def speed(self) -> Tensor:
        """Compute Δx/Δt (count,) over the control step."""
        return (self.x - self.x_before) / self.control_timestep


class BalancedLocomotion(Locomotion[BalancedLocomotionConstants]):
    """Move along x without falling: height, pitch and the other numbers must stay in their ranges."""

    facts: ClassVar = {
        "observation": "as HalfCheetah's, velocities clipped",
        "reward": "as HalfCheetah's, and 1 where it has not fallen",
        "end": "height, pitch or another number leaves its range",
    }

    def __init__(self, simulation: Simulation, constants: BalancedLocomotionConstants) -> None:
        super().__init__(simulation, constants)
        (lowest, highest), pitch = constants.healthy_height, constants.healthy_pitch
        others = [constants.healthy_state] * (self.pose.shape[1] + self.qvel.shape[1] - 2)
        self.low = simulation.constant([lowest, -pitch, *(-other for other in others)])
        self.high = simulation.constant([highest, pitch, *others])

    def observation(self) -> Tensor:
        most = self.constants.clipped_speed
        return torch.cat((self.pose, self.qvel.clamp(-most, most)), dim=1)

    def reward(self) -> Tensor:
        constants = self.constants
        healthy = constants.healthy_reward * self.healthy()
        return (self.speed() + healthy) - self.control_cost(constants.control_price)

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Return where (count,) it has not fallen; false where a number is NaN."""
        state = torch.cat((self.pose, self.qvel), dim=1)  # height and pitch come first
        return ((self.low < state) & (state < self.high)).all(1)
