"""Heun's method: x' = x + h/2 (v(x, t) + v(x + h v(x, t), t + h))."""

from flowrl_samplers._plan import RungeKutta, Tableau


class Heun(RungeKutta):
    """Order 2, 2 evaluations per step. Also called improved Euler, the explicit trapezoidal rule, or heun2.

    Its second stage evaluates the velocity at the end of the step, up to t = 1; at few steps narrow actions
    come out too widely spread.
    """

    order = 2
    tableau = Tableau(a=((1.0,),), b=(1 / 2, 1 / 2))
