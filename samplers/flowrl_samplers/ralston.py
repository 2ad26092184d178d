"""Ralston's method: x' = x + h (1/4 v_1 + 3/4 v_2), v_2 = v(x + 2/3 h v_1, t + 2/3 h)."""

from flowrl_samplers._plan import RungeKutta, Tableau


class Ralston(RungeKutta):
    """Order 2, 2 evaluations per step, with the least bound on the error of a step of all such methods.

    Ralston 1962, Runge-Kutta methods with minimum error bounds. Some books call it Heun's.
    """

    order = 2
    tableau = Tableau(a=((2 / 3,),), b=(1 / 4, 3 / 4))
