"""The classic Runge-Kutta method: x' = x + h/6 (v_1 + 2 v_2 + 2 v_3 + v_4)."""

from flowrl_samplers._plan import RungeKutta, Tableau


class RK4(RungeKutta):
    """Order 4, 4 evaluations per step. Also called RK4, or Kutta's method (1901).

    It is worth its cost from about 16 evaluations on. torchdiffeq's `rk4` is another method, the 3/8 rule.
    """

    order = 4
    tableau = Tableau(a=((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6))
