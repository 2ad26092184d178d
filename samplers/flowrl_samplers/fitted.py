"""A solver that was fitted to one velocity: x_{i+1} = x_0 + sum_{j<=i} w_ij v(x_j, t_j)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from flowrl_samplers._plan import Node, Plan, Velocity, between, carry

MOST_NODES = 64
LARGEST_WEIGHT = 1000.0


@dataclass(frozen=True)
class Fitted:
    """Evaluates the velocity at `times` and adds all velocities so far with the rows of `weights`, for t from 0 to 1.

    The numbers fit the policy that they were made for: on another velocity their accuracy is not known. Between other
    times than 0 and 1 they are scaled linearly.

    `times` are n rising numbers in [0, 1), `weights` n rows of 1, 2, ..., n finite numbers: after node i the point is
    x_0 + sum_j weights[i][j] v_j. Raises ValueError for other numbers.
    """

    times: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    label: str = ""  # the name under which results are reported
    specific: ClassVar[bool] = True  # made for one velocity: what is measured on others is no fault

    def __post_init__(self) -> None:
        count = len(self.times)
        if not count:
            raise ValueError("times are missing: name a file of fitted numbers, such as --sampler fitted-4.yaml")
        if count > MOST_NODES:
            raise ValueError(f"times are {count} numbers, and at most {MOST_NODES} are taken")
        if not all(0 <= t < 1 for t in self.times) or any(
            later <= t for t, later in zip(self.times, self.times[1:], strict=False)
        ):
            raise ValueError(f"times must rise within [0, 1), not {list(self.times)}")
        if [len(row) for row in self.weights] != list(range(1, count + 1)):
            raise ValueError(
                f"weights must be rows of 1 to {count} numbers, a row after each evaluation, not rows of "
                f"{', '.join(str(len(row)) for row in self.weights) or 'none'}"
            )
        for weight in (weight for row in self.weights for weight in row):
            if not math.isfinite(weight) or abs(weight) > LARGEST_WEIGHT:
                raise ValueError(f"weights must be finite numbers within ±{LARGEST_WEIGHT:g}, not {weight}")

    @property
    def nfe(self) -> int:
        """Count the velocity evaluations of one call."""
        return len(self.times)

    def plan(self, t0: float, t1: float) -> Plan:
        """Build the nodes and coefficients from `t0` to `t1`."""
        return self._forward if (t0, t1) == (0, 1) else self._scaled(t0, t1)

    @cached_property
    def _forward(self) -> Plan:
        return self._scaled(0.0, 1.0)

    def _scaled(self, t0: float, t1: float) -> Plan:
        last = self.nfe - 1
        return Plan(
            tuple(
                Node(
                    between(t0, t1, t),
                    tuple((place - age, weight * (t1 - t0)) for age, weight in enumerate(row)),
                    ends_step=place == last,
                )
                for place, (t, row) in enumerate(zip(self.times, self.weights, strict=True))
            )
        )

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """Carry the points `x` (batch, action) from `t0` to `t1`."""
        return carry(self.plan(t0, t1), velocity, x)
