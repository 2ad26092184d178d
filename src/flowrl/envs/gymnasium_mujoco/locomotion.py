"""The tasks whose reward is to move along x: HalfCheetah and Swimmer, which cannot fall, Hopper and Walker2d."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
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
    healthy_reward: float = 1.0  # per control step


@dataclass(frozen=True, kw_only=True)
class PlanarConstants(BalancedLocomotionConstants):
    """The numbers of a body that can fall in the x-z plane."""

    control_price: float = 1e-3
    hidden: int = 1
    healthy_pitch: float  # rad either way
    healthy_state: float  # bound of every other position and every velocity
    clipped_speed: float = 10.0  # m/s and rad/s, to which observed velocities are clipped


L = TypeVar("L", bound=LocomotionConstants)
B = TypeVar("B", bound=BalancedLocomotionConstants)

HALF_CHEETAH = LocomotionConstants(
    model="half_cheetah", substeps=5, start_noise=0.1, start_velocity="normal", control_price=0.1, hidden=1
)
SWIMMER = LocomotionConstants(
    model="swimmer", substeps=4, start_noise=0.1, start_velocity="uniform", control_price=1e-4, hidden=2
)
HOPPER = PlanarConstants(
    model="hopper",
    substeps=4,
    start_noise=5e-3,
    start_velocity="uniform",
    healthy_height=(0.7, torch.inf),
    healthy_pitch=0.2,
    healthy_state=100.0,
)
WALKER2D = replace(HOPPER, model="walker2d_v5", healthy_height=(0.8, 2.0), healthy_pitch=1.0, healthy_state=torch.inf)


class Locomotion(GymnasiumTask[L]):
    """Move along x.

    An observation consists of the positions but the first `hidden`, and all velocities. The reward is Δx/Δt - price ·
    Σ action².
    """

    x_before: Tensor  # (count,) m, at the start of the control step

    def __init__(self, simulation: Simulation, constants: L) -> None:
        super().__init__(simulation, constants)
        self.pose = self.qpos[:, constants.hidden :]

    def before_step(self) -> None:
        self.x_before = self.x().clone()

    def parts(self) -> dict[str, Tensor]:
        return {"position": self.pose, "velocity": self.qvel}

    def reward(self) -> Tensor:
        return self.speed() - self.control_cost()

    def x(self) -> Tensor:
        """Return the position (count,) along x whose change is rewarded, in m."""
        return self.qpos[:, 0]

    def speed(self) -> Tensor:
        """Compute Δx/Δt (count,) over the control step."""
        return (self.x() - self.x_before) / self.control_timestep

    def control_cost(self) -> Tensor:
        """Compute price · Σ ctrl² (count,), rounded as by Gymnasium: its actions are float32, and so is this sum.

        By NumPy's sum, because the last bit depends on the order of the terms.
        """
        actions = self.ctrl.numpy(force=True).astype(np.float32)
        cost = self.constants.control_price * np.square(actions).sum(axis=1)
        return torch.from_numpy(cost).to(self.ctrl.device)


class BalancedLocomotion(Locomotion[B]):
    """Move along x without falling, which ends the episode."""

    def reward(self) -> Tensor:
        return self.gain() - self.control_cost()

    def gain(self) -> Tensor:
        """Compute the reward (count,) before costs: for the speed, and for not having fallen."""
        return self.speed() + self.constants.healthy_reward * self.healthy()

    def terminated(self) -> Tensor:
        return ~self.healthy()

    def healthy(self) -> Tensor:
        """Return where (count,) bool it has not fallen."""
        raise NotImplementedError


class PlanarLocomotion(BalancedLocomotion[PlanarConstants]):
    """Move along x in the x-z plane without falling.

    The velocities in an observation are clipped, and the reward is 1 more where it has not fallen. An episode ends
    where height, pitch or another number leaves its range.
    """

    def __init__(self, simulation: Simulation, constants: PlanarConstants) -> None:
        super().__init__(simulation, constants)
        (lowest, highest), pitch = constants.healthy_height, constants.healthy_pitch
        others = [constants.healthy_state] * (self.pose.shape[1] + self.qvel.shape[1] - 2)
        self.low = simulation.constant([lowest, -pitch, *(-other for other in others)])
        self.high = simulation.constant([highest, pitch, *others])

    def parts(self) -> dict[str, Tensor]:
        most = self.constants.clipped_speed
        return {"position": self.pose, "velocity": self.qvel.clamp(-most, most)}

    def healthy(self) -> Tensor:
        """Return where (count,) it has not fallen; false where a number is NaN."""
        state = torch.cat((self.pose, self.qvel), dim=1)  # height and pitch come first
        return ((self.low < state) & (state < self.high)).all(1)
