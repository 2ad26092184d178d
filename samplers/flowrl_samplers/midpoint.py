"""The midpoint method: x' = x + h v(x + h/2 v(x, t), t + h/2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Tableau, Velocity, carry, check_steps, runge_kutta

TABLEAU = Tableau(
    a=((1 / 2,),),
    b=(0.0, 1.0),
)


@dataclass(frozen=True)
class Midpoint:
    """Order 2, 2 evaluations a step. Also called modified Euler, or RK2.

    It never evaluates the velocity at the end of the interval and does not overshoot narrow actions: the
    safest of the built-ins of order 2 at few evaluations.
    """

    steps: int = 10
    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 2

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
