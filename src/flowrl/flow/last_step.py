"""The last step to t = 1 of a flow whose field cannot be evaluated there.

A network that predicts the action has the velocity (action - x) / (1 - t), which is 0 / 0 at t = 1: its limit depends
on the path by which x came there, and no function of x alone can give it. A straight step from 1 - h needs no velocity
at t = 1 and ends exactly in the prediction; a method that evaluates one there gets a number without meaning. So such
a method integrates to the field's latest time, and one straight step, to the prediction, takes the rest: what EDM does
in its last step (Karras et al. 2022, arXiv 2206.00364, Algorithm 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.protocols import Sampler, Velocity, VelocityField

ROUND_OFF = 1e-9  # of the time of a node


class StraightLastStep:
    """Carries points with `sampler` to the time `latest`, and from there to the end in one straight step."""

    def __init__(self, sampler: Sampler, latest: float) -> None:
        self.sampler = sampler
        self.latest = latest

    @property
    def nfe(self) -> int | None:
        """Velocity evaluations of one call, one more than the sampler's; None where the sampler declares none."""
        declared: int | None = getattr(self.sampler, "nfe", None)
        return None if declared is None else declared + 1

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """Carry the points `x` (batch, action) from `t0` to `t1`, which lies after `latest`."""
        x = self.sampler(velocity, x, t0, self.latest)
        return x + (t1 - self.latest) * velocity(x, self.latest)


def for_field(sampler: Sampler, field: VelocityField) -> Sampler:
    """Return `sampler`, or, if it evaluates velocities after the latest time of `field`, a `StraightLastStep` of it.

    A field without the attribute `latest_time` can be evaluated everywhere.
    """
    latest: float = getattr(field, "latest_time", 1.0)
    if latest >= 1 or _last_evaluation(sampler) <= latest + ROUND_OFF:
        return sampler
    return StraightLastStep(sampler, latest)


def _last_evaluation(sampler: Sampler) -> float:
    """Return the last time at which `sampler` evaluates a velocity of 0 on its way from 0 to 1."""
    times = [0.0]

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        times.append(float(t))
        return torch.zeros_like(x)

    try:
        sampler(velocity, torch.zeros(1, 1), 0.0, 1.0)
    except BaseException as error:  # of a faulty sampler: it raises again, and is reported, when the policy acts
        raise_interrupt(error)
        return 1.0
    return max(times)
