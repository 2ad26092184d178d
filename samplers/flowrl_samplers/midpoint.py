"""The midpoint method: x' = x + h v(x + h/2 v(x, t), t + h/2)."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, Tableau, runge_kutta

TABLEAU = Tableau(a=((1 / 2,),), b=(0.0, 1.0))


class Midpoint(FixedGrid):
    """Order 2, 2 evaluations per step. Also called modified Euler, or RK2.

    It never evaluates the velocity at the end of the interval and does not overshoot narrow actions: the
    safest built-in of order 2 at few evaluations.
    """

    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 2

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(TABLEAU, self.steps, t0, t1)
