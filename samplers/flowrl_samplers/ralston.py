"""Ralston's method: x' = x + h (1/4 v_1 + 3/4 v_2), v_2 = v(x + 2/3 h v_1, t + 2/3 h)."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, Tableau, runge_kutta

TABLEAU = Tableau(a=((2 / 3,),), b=(1 / 4, 3 / 4))


class Ralston(FixedGrid):
    """Order 2, 2 evaluations per step, with the least bound on the error of a step of all such methods.

    Ralston 1962, Runge-Kutta methods with minimum error bounds. Some books call it Heun's.
    """

    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 2

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(TABLEAU, self.steps, t0, t1)
