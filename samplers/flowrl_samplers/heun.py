"""Heun's method: x' = x + h/2 (v(x, t) + v(x + h v(x, t), t + h))."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, Tableau, runge_kutta

TABLEAU = Tableau(a=((1.0,),), b=(1 / 2, 1 / 2))


class Heun(FixedGrid):
    """Order 2, 2 evaluations per step. Also called improved Euler, the explicit trapezoidal rule, or heun2.

    Its second stage evaluates the velocity at the end of the step, up to t = 1; at few steps narrow actions
    come out too widely spread.
    """

    order: ClassVar[int] = 2
    nfe_per_step: ClassVar[int] = 2

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(TABLEAU, self.steps, t0, t1)
