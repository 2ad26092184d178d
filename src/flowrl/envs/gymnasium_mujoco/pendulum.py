"""InvertedPendulum and InvertedDoublePendulum: a pole, or two, to be kept upright on a cart."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flowrl.envs.gymnasium_mujoco.task import GymnasiumConstants, GymnasiumTask
from flowrl.envs.simulation.protocol import Simulation


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
    clipped_most: float = 10.0  # m/s, rad/s, and N, to which observed velocities and forces are clipped


PENDULUM = PendulumConstants(model="inverted_pendulum", substeps=2, start_noise=0.01, start_velocity="uniform")
DOUBLE_PENDULUM = DoublePendulumConstants(
    model="inverted_double_pendulum", substeps=5, start_noise=0.1, start_velocity="normal"
)


class Pendulum(GymnasiumTask[PendulumConstants]):
    """Keep one pole upright.

    An observation consists of the cart's position, the pole's angle, and their velocities. The reward is 1 until the
    pole has fallen, which ends the episode.
    """

    def reward(self) -> Tensor:
        return (~self.terminated()).to(self.qpos.dtype)

    def terminated(self) -> Tensor:
        fallen = self.qpos[:, 1].abs() > self.constants.most_angle
        return fallen | ~self.observation().isfinite().all(1)


class DoublePendulum(GymnasiumTask[DoublePendulumConstants]):
    """Keep two poles upright, one on the other.

    An observation consists of the cart's position, the sines and cosines of both angles, the velocities, and the force
    that holds the cart on its rail. The reward is 10 until the tip has fallen, which ends the episode, - (0.01 x² +
    (z - 2)²) - (0.001 ω₁² + 0.005 ω₂²). The tip's position (x, z) and the force are the last substep's, as Gymnasium
    reads them.
    """

    def __init__(self, simulation: Simulation, constants: DoublePendulumConstants) -> None:
        super().__init__(simulation, constants)
        self.force = simulation.latest("qfrc_constraint")[:, :1]
        tip = simulation.latest("site_xpos")[:, 0]
        self.tip_x, self.tip_z = tip[:, 0], tip[:, 2]

    def parts(self) -> dict[str, Tensor]:
        angles, most = self.qpos[:, 1:], self.constants.clipped_most
        return {
            "cart": self.qpos[:, :1],
            "sine": angles.sin(),
            "cosine": angles.cos(),
            "velocity": self.qvel.clamp(-most, most),
            "force": self.force.clamp(-most, most),
        }

    def reward(self) -> Tensor:
        alive = self.constants.healthy_reward * ~self.terminated()
        distance = 0.01 * self.tip_x**2 + (self.tip_z - self.constants.upright) ** 2
        velocity = 1e-3 * self.qvel[:, 1] ** 2 + 5e-3 * self.qvel[:, 2] ** 2
        return alive - distance - velocity

    def terminated(self) -> Tensor:
        return self.tip_z <= self.constants.least_height
