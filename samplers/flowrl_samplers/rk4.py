"""The classic Runge-Kutta method: x' = x + h/6 (v_1 + 2 v_2 + 2 v_3 + v_4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Tableau, Velocity, carry, check_steps, runge_kutta

TABLEAU = Tableau(
    a=((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)


@dataclass(frozen=True)
class RK4:
    """Order 4, 4 evaluations a step. Also called RK4, or Kutta's method (1901).

    It pays from about 16 evaluations on. torchdiffeq's `rk4` is another method, the 3/8 rule.
    """

    steps: int = 10
    order: ClassVar[int] = 4
    nfe_per_step: ClassVar[int] = 4

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
