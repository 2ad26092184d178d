"""Ralston's method: x' = x + h (1/4 v_1 + 3/4 v_2), v_2 = v(x + 2/3 h v_1, t + 2/3 h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Tableau, Velocity, carry, check_steps, runge_kutta

TABLEAU = Tableau(
    a=((2 / 3,),),
    b=(1 / 4, 3 / 4),
)


@dataclass(frozen=True)
class Ralston:
    """Order 2, 2 evaluations a step. Of all such methods the one with the least bound on the error of a step
    (Ralston 1962). Some books call it Heun's.
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
