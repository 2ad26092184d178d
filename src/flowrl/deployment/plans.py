"""The plan of a fixed-step sampler: at which times it evaluates the velocity, and what it adds up.

A sampler that has `plan(t0, t1)` says it. Any other is run once on velocities that are unit vectors: then each point is
the list of its coefficients. That gives the plan of every sampler whose times and coefficients do not depend on the
velocities, and shows that of an adaptive one to be none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.flow import last_step

MOST_NODES = 10_000
SCALES = (1.0, 300.0)  # of the two runs that have to agree


class PlanNode(NamedTuple):
    """An evaluation of the velocity, and the terms that lead to the next point."""

    t: float
    weights: tuple[float, ...]  # by age: of this velocity, the one before, ...
    ends_step: bool  # the next point is where the next step starts


class NotFixed(Exception):
    """A sampler has no plan."""


def read(sampler: Sampler, field: VelocityField, name: str) -> tuple[PlanNode, ...]:
    """Return the nodes by which `sampler`, called `name`, carries points of `field` from t = 0 to 1, as a policy does.

    Where the field cannot be evaluated at t = 1 the last node is the straight step of `flowrl.flow.last_step`.
    Raises UsageError, with what to type instead, for a sampler that has no plan.
    """
    integrator = last_step.for_field(sampler, field)
    try:
        if isinstance(integrator, last_step.StraightLastStep):
            latest = integrator.latest
            return (*_nodes(sampler, latest), PlanNode(latest, (1 - latest,), True))
        return _nodes(sampler, 1.0)
    except NotFixed as error:
        raise UsageError(
            f"sampler {name!r} cannot be exported: {error}, so its time per action has no bound. Export one with fixed "
            "steps instead, such as --sampler rk4:10 (its error is like that of an adaptive one) or --sampler ab2:6 "
            "(faster); `flowrl bench-latency` compares their times and errors."
        ) from error


def _nodes(sampler: Sampler, end: float) -> tuple[PlanNode, ...]:
    plan = getattr(sampler, "plan", None)
    if not callable(plan):
        return _recorded(sampler, end)
    try:
        return tuple(_read_node(node) for node in plan(0.0, end).nodes)
    except (AttributeError, TypeError, ValueError):  # a plan of another kind
        return _recorded(sampler, end)


def _read_node(node: Any) -> PlanNode:
    terms = {int(age): float(weight) for age, weight in node.terms}
    weights = tuple(terms.get(age, 0.0) for age in range(1 + max(terms)))
    return PlanNode(float(node.t), weights, bool(node.ends_step))


def _recorded(sampler: Sampler, end: float) -> tuple[PlanNode, ...]:
    """Return the plan of a sampler that says none; raises NotFixed where it has none."""
    count = len(_times(sampler, end))
    if count == 0:
        raise NotFixed("it evaluates no velocity")
    (times, rows), (again, others) = (_coefficients(sampler, end, count, scale) for scale in SCALES)
    if times != again or not torch.allclose(rows, others, rtol=1e-9, atol=1e-12):
        raise NotFixed("its steps depend on the velocities")
    if not torch.allclose(rows[:, 0], torch.ones(count, dtype=rows.dtype), rtol=1e-9):
        raise NotFixed("its points are not the noise plus velocities")
    found = []
    for number, (t, row) in enumerate(zip(times, rows[:, 1:].tolist(), strict=True)):
        if any(row[number + 1 :]):
            raise NotFixed("a point depends on velocities that were evaluated later")
        found.append(PlanNode(t, tuple(reversed(row[: number + 1])), number + 1 == count))
    return tuple(found)


def _times(sampler: Sampler, end: float) -> list[float]:
    """Return the times at which `sampler` evaluates a velocity of 0."""
    times: list[float] = []

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        times.append(float(t))
        if len(times) > MOST_NODES:
            raise NotFixed(f"it evaluates the velocity more than {MOST_NODES:,} times")
        return torch.zeros_like(x)

    _run(sampler, velocity, torch.zeros(1, 1, dtype=torch.float64), end)
    return times


def _coefficients(sampler: Sampler, end: float, count: int, scale: float) -> tuple[list[float], Tensor]:
    """Return the times (count,) and the coefficients (count, 1 + count) of the noise and of the velocities in the point
    after each evaluation, found with velocities that are `scale` times a unit vector."""
    times: list[float] = []
    points: list[Tensor] = []

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        if len(times) == count:
            raise NotFixed("its number of steps depends on the velocities")
        times.append(float(t))
        points.append(x.detach().clone())
        unit = torch.zeros_like(x)
        unit[0, len(times)] = scale
        return unit

    start = torch.zeros(1, 1 + count, dtype=torch.float64)
    start[0, 0] = 1.0
    points.append(_run(sampler, velocity, start, end))
    if len(times) != count:
        raise NotFixed("its number of steps depends on the velocities")
    rows = torch.cat(points[1:])
    rows[:, 1:] /= scale
    return times, rows


def _run(sampler: Sampler, velocity: Any, x: Tensor, end: float) -> Tensor:
    try:
        return sampler(velocity, x, 0.0, end)
    except NotFixed:
        raise
    except BaseException as error:  # of a third party's code
        raise_interrupt(error)
        if isinstance(error.__context__, NotFixed):
            raise error.__context__ from None
        raise NotFixed(f"it fails on a test velocity ({type(error).__name__}: {error})") from error
