"""Euler's method: x' = x + h v(x, t)."""

from __future__ import annotations

from typing import ClassVar

from flowrl_samplers._plan import FixedGrid, Plan, Tableau, runge_kutta

TABLEAU = Tableau(a=(), b=(1.0,))


class Euler(FixedGrid):
    """Order 1, 1 evaluation per step. Also called forward Euler; on straight paths it is DDIM.

    At few steps it contracts towards the mean: the actions are less spread than those of the exact flow.
    """

    order: ClassVar[int] = 1
    nfe_per_step: ClassVar[int] = 1

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(TABLEAU, self.steps, t0, t1)
