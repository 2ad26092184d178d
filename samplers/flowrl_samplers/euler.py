"""Euler's method: x' = x + h v(x, t)."""

from flowrl_samplers._plan import RungeKutta, Tableau


class Euler(RungeKutta):
    """Order 1, 1 evaluation per step. Also called forward Euler; on straight paths it is DDIM.

    At few steps it contracts towards the mean: the actions are less spread than those of the exact flow.
    """

    order = 1
    tableau = Tableau(a=(), b=(1.0,))
