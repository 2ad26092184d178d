"""InvertedPendulum and InvertedDoublePendulum: a pole, or two, to be kept upright on a cart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import GymnasiumConstants, compiled, scatter
from flowrl.envs.simulation.mujoco_batch import Simulation


@dataclass(frozen=True, kw_only=True)
class PendulumConstants(GymnasiumConstants):
    """InvertedPendulum's numbers."""

    most_angle: float = 0.2  # rad either way, beyond which the pole has fallen


@dataclass(frozen=True, kw_only=True)
class DoublePendulumConstants(GymnasiumConstants):
    """InvertedDoublePendulum's numbers."""

    least_height: float = 1.0  # m; at or below, the tip has fallen
    upright: float = 2.0  # m, the height of the tip that is wanted
    healthy_reward: float = 10.0  # per control step
    seen_most: float = 10.0  # m/s, rad/s, and N, to which what is seen is clipped


PENDULUM = PendulumConstants(
    model="inverted_pendulum", substeps=2, start_noise=0.01, start_velocity="uniform"
)
DOUBLE_PENDULUM = DoublePendulumConstants(
    model="inverted_double_pendulum", substeps=5, start_noise=0.1, start_velocity="normal"
)


class Pendulum:
    """Observation (4): cart, angle, and how fast they change. Reward: 1 until the pole has fallen, which ends it."""

    observation_parts: ClassVar = {"position": 2, "velocity": 2}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: PendulumConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: PendulumConstants) -> None:
        self.simulation, self.constants = simulation, constants
        self.qpos, self.qvel = simulation.bind("qpos"), simulation.bind("qvel")

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        scatter(self.simulation, self.constants, rows, random)

    def observation(self) -> Tensor:
        return torch.cat((self.qpos, self.qvel), dim=1)

    def reward(self) -> Tensor:
        return (~self.terminated()).double()

    def terminated(self) -> Tensor:
        fallen = self.qpos[:, 1].abs() > self.constants.most_angle
        return fallen | ~self.observation().isfinite().all(1)


class DoublePendulum:
    """Observation (9): cart, sines and cosines of both angles, velocities, force that holds the cart on its rail.

    Reward: 10 until the tip has fallen, which ends it, - (0.01 x² + (z - 2)²) - (0.001 ω₁² + 0.005 ω₂²). The
    tip's place (x, z) and the force are the last substep's, as Gymnasium reads them.
    """

    observation_parts: ClassVar = {"cart": 1, "sine": 2, "cosine": 2, "velocity": 3, "force": 1}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: DoublePendulumConstants) -> mujoco.MjModel:
        return compiled(constants)

    def __init__(self, simulation: Simulation, constants: DoublePendulumConstants) -> None:
        self.simulation, self.constants = simulation, constants
        self.qpos, self.qvel = simulation.bind("qpos"), simulation.bind("qvel")
        self.force = simulation.latest("qfrc_constraint")[:, :1]
        tip = simulation.latest("site_xpos")[:, 0]
        self.tip_x, self.tip_z = tip[:, 0], tip[:, 2]

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        scatter(self.simulation, self.constants, rows, random)

    def observation(self) -> Tensor:
        cart, angles = self.qpos[:, :1], self.qpos[:, 1:]
        clipped = torch.cat((self.qvel, self.force), dim=1).clamp(
            -self.constants.seen_most, self.constants.seen_most
        )
        return torch.cat((cart, angles.sin(), angles.cos(), clipped), dim=1)

    def reward(self) -> Tensor:
        alive = self.constants.healthy_reward * ~self.terminated()
        off = 0.01 * self.tip_x**2 + (self.tip_z - self.constants.upright) ** 2
        fast = 1e-3 * self.qvel[:, 1] ** 2 + 5e-3 * self.qvel[:, 2] ** 2
        return alive - off - fast

    def terminated(self) -> Tensor:
        return self.tip_z <= self.constants.least_height
