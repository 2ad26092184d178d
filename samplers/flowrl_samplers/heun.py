"""Heun's method: x' = x + h/2 (v(x, t) + v(x + h v(x, t), t + h))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Tableau, Velocity, carry, check_steps, runge_kutta

TABLEAU = Tableau(
    a=((1.0,),),
    b=(1 / 2, 1 / 2),
)


@dataclass(frozen=True)
class Heun:
    """Order 2, 2 evaluations a step. Also called improved Euler, the explicit trapezoidal rule, or heun2.

    Its second stage stands at the end of the interval, where narrow actions come out too widely spread at
    few steps.
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
