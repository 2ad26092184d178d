"""Ant: a body on four legs, rewarded for moving along x, minus costs of control and of contact forces."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flowrl.envs.gymnasium_mujoco.locomotion import BalancedLocomotion, BalancedLocomotionConstants
from flowrl.envs.simulation.protocol import Simulation

TORSO = 1


@dataclass(frozen=True, kw_only=True)
class AntConstants(BalancedLocomotionConstants):
    """Ant's numbers."""

    control_price: float = 0.5
    hidden: int = 2
    contact_price: float = 5e-4  # reward lost per squared unit of clipped force on its bodies
    most_force: float = 1.0  # N and N m, to which forces are clipped
    healthy_height: tuple[float, float] = (0.2, 1.0)  # m, of the torso; both still healthy


ANT = AntConstants(model="ant", substeps=5, start_noise=0.1, start_velocity="normal")


class Ant(BalancedLocomotion[AntConstants]):
    """Walk along x on four legs.

    An observation consists of the positions but x and y, the velocities, and the clipped outer forces on each body.
    The reward is Δx/Δt of the torso + 1 while healthy - 0.5 Σ action² - 0.0005 Σ force². An episode ends where the
    torso leaves its range of heights, or a number is not finite. The torso's x is the last substep's, as Gymnasium
    reads it.
    """

    reads_forces = True

    def __init__(self, simulation: Simulation, constants: AntConstants) -> None:
        super().__init__(simulation, constants)
        self.forces = simulation.external_forces().flatten(1)  # the world's, which are zero, come first
        self.torso_x = simulation.latest("xpos")[:, TORSO, 0]

    def x(self) -> Tensor:
        return self.torso_x

    def parts(self) -> dict[str, Tensor]:
        return super().parts() | {"force": self.clipped_forces()[:, 6:]}

    def reward(self) -> Tensor:
        contact = self.constants.contact_price * self.clipped_forces().square().sum(1)
        return self.gain() - (self.control_cost() + contact)

    def healthy(self) -> Tensor:
        """Return where (count,) the torso is neither too low nor too high, and all numbers are finite."""
        low, high = self.constants.healthy_height
        height = self.qpos[:, 2]
        finite = self.qpos.isfinite().all(1) & self.qvel.isfinite().all(1)
        return finite & (low <= height) & (height <= high)

    def clipped_forces(self) -> Tensor:
        """Return the forces (count, 6 · bodies), clipped."""
        return self.forces.clamp(-self.constants.most_force, self.constants.most_force)
