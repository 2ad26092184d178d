"""Dormand-Prince 5(4): adaptive steps, by torchdiffeq."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchdiffeq import odeint

from flowrl_samplers._plan import Velocity
from flowrl_samplers.errors import BudgetExceeded, IntegrationFailed

# float32 has no more digits than 1e-7; a tolerance far below it makes steps too small to move the points.
SMALLEST_TOLERANCE, LARGEST_TOLERANCE = 1e-12, 1e3
MOST_EVALUATIONS = 10_000_000


@dataclass(frozen=True)
class Dopri5:
    """Order 5, 6 evaluations per attempted step and 1 to start. Also called RK45, ode45 or RKDP.

    Each step's error estimate stays below `atol + rtol |x|` in **every row** of the batch (root mean square
    over the row's numbers), however many easy rows are in the batch with a hard one. The rows share the step
    size: the hardest row decides the cost of all, and a row's last digits depend on the other rows. The
    velocity is evaluated between `t0` and `t1` only, and each call first tries a step of a tenth of the way.

    Raises BudgetExceeded when `max_nfe` evaluations do not reach the end, and IntegrationFailed when the
    velocity is not finite or no step is small enough.
    """

    rtol: float = 1e-5
    atol: float = 1e-6
    max_nfe: int = 1000
    order: ClassVar[int] = 5
    nfe_per_step: ClassVar[None] = None  # a step may be rejected and tried again
    nfe: ClassVar[None] = None  # known only after the call, by counting

    def __post_init__(self) -> None:
        for name, tolerance in (("rtol", self.rtol), ("atol", self.atol)):
            if type(tolerance) not in (int, float):
                raise TypeError(f"{name} must be a number, not {tolerance!r}")
            if not (SMALLEST_TOLERANCE <= tolerance <= LARGEST_TOLERANCE):
                raise ValueError(
                    f"{name} must be positive and finite, from {SMALLEST_TOLERANCE:g} to {LARGEST_TOLERANCE:g}, "
                    f"not {tolerance}"
                )
        if type(self.max_nfe) is not int:
            raise TypeError(f"max_nfe must be an integer, not {self.max_nfe!r}")
        if self.max_nfe < 1:
            raise ValueError(f"max_nfe must be at least 1, not {self.max_nfe}")
        if self.max_nfe > MOST_EVALUATIONS:
            raise ValueError(f"max_nfe must be at most {MOST_EVALUATIONS}, not {self.max_nfe}")

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """Carry the points `x` (batch, action) from `t0` to `t1`."""
        if t0 == t1 or x.numel() == 0:  # torchdiffeq needs strictly monotonic times and at least one number
            return x.clone()
        spent, reached = 0, x

        def derivative(t: Tensor, points: Tensor) -> Tensor:
            nonlocal spent, reached
            if spent == self.max_nfe:
                raise BudgetExceeded(
                    f"dopri5 spent max_nfe = {self.max_nfe} velocity evaluations near t = {t.item():.4g}, "
                    f"on the way from {t0:g} to {t1:g}; raise max_nfe, or loosen rtol (now {self.rtol:g}) "
                    f"or atol (now {self.atol:g})"
                )
            spent, reached = spent + 1, points
            return velocity(points, t.item())

        interval = torch.tensor([t0, t1], dtype=torch.float64, device=x.device)
        options = {
            "norm": worst_row,
            # torchdiffeq's own choice of a first step may evaluate the velocity beyond t1
            "first_step": abs(t1 - t0) / 10,
            "step_t": interval[1:],  # land on t1 instead of stepping past it and interpolating back
        }
        tolerance = {"rtol": self.rtol, "atol": self.atol}
        try:
            odeint(derivative, x, interval, **tolerance, method="dopri5", options=options)
        except AssertionError as error:  # raised by torchdiffeq when the state or the step is no longer a number
            raise IntegrationFailed(
                f"dopri5 cannot continue from {t0:g} to {t1:g} ({error}): is the velocity finite there?"
            ) from error
        # The last stage of Dormand-Prince is at the step's end, so the last points evaluated are x at t1. odeint
        # returns an interpolation instead, whose cancellations cost a digit in float32.
        return reached


def worst_row(scaled_error: Tensor) -> Tensor:
    """Compute max over rows of sqrt(mean over the row's numbers of e^2); torchdiffeq's norm is a mean over all."""
    return scaled_error.square().mean(dim=-1).sqrt().amax()
