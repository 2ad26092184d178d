"""Humanoid: a body on two legs, rewarded for moving along x and for staying upright."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flowrl.envs.gymnasium_mujoco.locomotion import BalancedLocomotion, BalancedLocomotionConstants
from flowrl.envs.simulation.protocol import Simulation

ROOT = 6  # degrees of freedom of the root, which no actuator drives


@dataclass(frozen=True, kw_only=True)
class HumanoidConstants(BalancedLocomotionConstants):
    """Humanoid's numbers."""

    forward_reward: float = 1.25  # per m/s
    control_price: float = 0.1
    hidden: int = 2
    contact_price: float = 5e-7  # reward lost per squared unit of outer force on its bodies, …
    most_contact_cost: float = 10.0  # … but no more than this
    healthy_height: tuple[float, float] = (1.0, 2.0)  # m, of the torso
    healthy_reward: float = 5.0


HUMANOID = HumanoidConstants(model="humanoid", substeps=5, start_noise=0.01, start_velocity="uniform")


class Humanoid(BalancedLocomotion[HumanoidConstants]):
    """Walk along x on two legs.

    An observation consists of the positions but x and y, the velocities, the inertias and velocities of all bodies,
    the joint torques, and the outer forces on all bodies. The reward is 1.25 Δx/Δt of the centre of mass + 5 while
    healthy - 0.1 Σ action² - 5e-7 Σ force², this last at most 10. An episode ends where the torso leaves its range of
    heights. What is derived from the state is the last substep's, as Gymnasium reads it.
    """

    reads_forces = True

    def __init__(self, simulation: Simulation, constants: HumanoidConstants) -> None:
        super().__init__(simulation, constants)
        self.height = self.qpos[:, 2]
        self.forces = simulation.external_forces().flatten(1)
        self.derived_parts = {
            "inertia": simulation.latest("cinert").flatten(1)[:, 10:],  # of all bodies but the world
            "body_velocity": simulation.latest("cvel").flatten(1)[:, 6:],
            "torque": simulation.latest("qfrc_actuator")[:, ROOT:],
            "force": self.forces[:, 6:],
        }
        masses = simulation.constant(simulation.model.body_mass)
        self.mass_share = masses / masses.sum()  # of each body in the centre of mass
        self.body_x = simulation.latest("xipos")[:, :, 0]

    def x(self) -> Tensor:
        """Compute the position (count,) of the centre of mass along x."""
        return (self.body_x * self.mass_share).sum(1)

    def parts(self) -> dict[str, Tensor]:
        return super().parts() | self.derived_parts

    def reward(self) -> Tensor:
        constants = self.constants
        gain = constants.forward_reward * self.speed() + constants.healthy_reward * self.healthy()
        forces = self.forces.square().sum(1)
        contact = (constants.contact_price * forces).clamp(max=constants.most_contact_cost)
        return gain - (constants.control_price * self.ctrl.square().sum(1) + contact)

    def healthy(self) -> Tensor:
        """Return where (count,) the torso is neither too low nor too high."""
        low, high = self.constants.healthy_height
        return (low < self.height) & (self.height < high)
