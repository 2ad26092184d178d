"""The midpoint method: x' = x + h v(x + h/2 v(x, t), t + h/2)."""

from flowrl_samplers._plan import RungeKutta, Tableau


class Midpoint(RungeKutta):
    """Order 2, 2 evaluations per step. Also called modified Euler, or RK2.

    It never evaluates the velocity at the end of the interval and does not overshoot narrow actions: the
    safest built-in of order 2 at few evaluations.
    """

    order = 2
    tableau = Tableau(a=((1 / 2,),), b=(0.0, 1.0))
