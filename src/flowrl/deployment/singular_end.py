"""Samplers that weigh heavily on the end of time where a policy's velocity is a difference divided by almost 0.

A network that predicts the action has the velocity (action - x) / (1 - t), one that predicts the noise (x - noise) / t;
the divisors are at least 0.02 (`flowrl.contracts.divisors`). A method in one of whose points the velocity there has the
weight w magnifies the network's error w / 0.02 times: 5 times with two stages and five steps of which the last is at
the end. A policy that was trained with such a sampler has learned with these errors; another has not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowrl.contracts.divisors import SMALLEST_DIVISOR
from flowrl.contracts.errors import FlowrlError
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.networks.velocity import FlowNetwork
from flowrl.samplers import registry

TOLERATED = 1.5  # times that an error may be magnified, or times as much as with the sampler of the training
ENDS = {"data": 1.0, "eps": 0.0}  # parameterisation -> the time at which its velocity is divided by almost 0
PREDICTED = {"data": "actions", "eps": "the noise"}
# With the evaluations per step: in the order in which they are proposed.
PROPOSED = (("midpoint", 2), ("ab2", 1), ("euler", 1))


def magnification(sampler: Sampler, field: VelocityField) -> float:
    """Return how many times `sampler` magnifies an error of the network at the singular end of its velocity.

    It is the largest weight, in a point that it evaluates or ends in, of the velocities within 0.02 of that end,
    divided by 0.02. 0 for a field without such an end, and for a sampler that has no fixed number of evaluations: it
    takes small steps there.
    """
    end = ENDS.get(field.settings.parameterisation) if isinstance(field, FlowNetwork) else None
    if end is None or not isinstance(getattr(sampler, "nfe", None), int):
        return 0.0

    points = []

    def near_the_end(x: Tensor, t: float | Tensor) -> Tensor:
        points.append(abs(x.item()))
        return torch.full_like(x, float(abs(float(t) - end) < SMALLEST_DIVISOR - 1e-9))

    try:
        points.append(abs(sampler(near_the_end, torch.zeros(1, 1, dtype=torch.float64), 0.0, 1.0).item()))
    except BaseException as error:  # of a faulty sampler: it raises again, and is reported, when it is used
        raise_interrupt(error)
        return 0.0
    return max(points) / SMALLEST_DIVISOR


def warning(name: str, sampler: Sampler, field: VelocityField, own: Sampler | None = None) -> str:
    """Return why the actions of `sampler`, called `name`, may be off on `field`, and what to take; '' if not.

    `own` is the sampler that the field was trained with.
    """
    trained = 0.0 if own is None else magnification(own, field)
    tolerated = TOLERATED * max(1.0, trained)
    found = magnification(sampler, field)
    if not isinstance(field, FlowNetwork) or found <= tolerated:
        return ""
    kind = field.settings.parameterisation
    nfe = sampler.nfe  # type: ignore[attr-defined]  # a number, else nothing is magnified
    safer = [other for other, made in _proposed(nfe) if magnification(made, field) <= tolerated]
    advice = f" Take {' or '.join(safer[:2])} instead." if safer else " Take more steps."
    compared = f", {trained:.2g} times with the sampler of the training" if trained else ""
    return (
        f"{name} may give actions that are off: this policy predicts {PREDICTED[kind]} (parameterisation: {kind}), "
        f"so its velocity at t = {ENDS[kind]:g} is a difference divided by almost 0, and {name} magnifies the errors "
        f"there {found:.2g} times{compared}. Compare its return.{advice}"
    )


def _proposed(nfe: int) -> Sequence[tuple[str, Sampler]]:
    """Return the general samplers with about `nfe` evaluations, by name."""
    made = []
    for name, per_step in PROPOSED:
        steps = max(1, nfe // per_step)
        try:
            made.append((f"{name}:{steps}", registry.make(name, {"steps": steps})))
        except FlowrlError:  # its package is not installed
            continue
    return made
