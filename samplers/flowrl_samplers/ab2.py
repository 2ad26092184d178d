"""Adams-Bashforth 2: x_{n+1} = x_n + h (3/2 v_n - 1/2 v_{n-1})."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, adams_bashforth_2


class AB2(FixedGrid):
    """Order 2, 1 evaluation per step. Also called the two-step Adams-Bashforth method
    (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section III.1).

    The first step, which has no previous velocity, is Euler's. Its error is of size h^2 and occurs once, so the
    order stays 2 and every step costs one evaluation. On learned velocities it is mostly the most accurate
    built-in up to about 12 evaluations.
    """

    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 1

    def plan(self, t0: float, t1: float) -> Plan:
        return adams_bashforth_2(self.steps, t0, t1)
