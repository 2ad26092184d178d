"""The classic Runge-Kutta method: x' = x + h/6 (v_1 + 2 v_2 + 2 v_3 + v_4)."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, Tableau, runge_kutta

TABLEAU = Tableau(a=((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6))


class RK4(FixedGrid):
    """Order 4, 4 evaluations per step. Also called RK4, or Kutta's method (1901).

    It is worth its cost from about 16 evaluations on. torchdiffeq's `rk4` is another method, the 3/8 rule.
    """

    order: ClassVar[int] = 4
    nfe_per_step: ClassVar[int] = 4

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(TABLEAU, self.steps, t0, t1)
