"""Adams-Bashforth 2: x_{n+1} = x_n + h (3/2 v_n - 1/2 v_{n-1})."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Plan, Velocity, adams_bashforth_2, carry, check_steps


@dataclass(frozen=True)
class AB2:
    """Order 2, 1 evaluation a step. Also called the two-step Adams-Bashforth method.

    The first step, which has no velocity before its own, is Euler's: its error is of size h^2 and made once,
    so the order stays 2 and every step costs one evaluation. On learned velocities it is mostly the most
    accurate built-in up to about 12 evaluations.
    """

    steps: int = 10
    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_steps(self.steps)

    @property
    def nfe(self) -> int:
        """Velocity evaluations of one call."""
        return self.nfe_per_step * self.steps

    def plan(self, t0: float, t1: float) -> Plan:
        """The nodes and coefficients from `t0` to `t1`."""
        return adams_bashforth_2(self.steps, t0, t1)

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """The points `x` (batch, action) at `t0`, carried to `t1`."""
        return carry(self.plan(t0, t1), velocity, x)
