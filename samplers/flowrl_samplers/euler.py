"""Euler's method: x' = x + h v(x, t)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Tableau, Velocity, carry, check_steps, runge_kutta

TABLEAU = Tableau(a=(), b=(1.0,))


@dataclass(frozen=True)
class Euler:
    """Order 1, 1 evaluation a step. Also called forward Euler; on straight paths it is DDIM.

    At few steps it contracts towards the mean: the actions are less spread than the flow's own.
    """

    steps: int = 10
    order: ClassVar[int] = 1
    nfe_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_steps(self.steps)

    @property
    def nfe(self) -> int:
        """Velocity evaluations of one call."""
        return self.nfe_per_step * self.steps

    def plan(self, t0: float, t1: float) -> Plan:
        """The nodes and coefficients from `t0` to `t1`."""
        return runge_kutta(TABLEAU, self.steps, t0, t1)

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """The points `x` (batch, action) at `t0`, carried to `t1`."""
        return carry(self.plan(t0, t1), velocity, x)
