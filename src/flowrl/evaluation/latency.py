"""The time per action of samplers, measured in turns so that a disturbance affects all, and the error of each.

`flowrl.evaluation.machine` judges whether the machine was quiet enough for the figures to be good.
"""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowrl.contracts.errors import FlowrlError, in_one_line
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.evaluation import pareto
from flowrl.flow import last_step
from flowrl.flow.nfe import CountingVelocity
from flowrl.flow.sampler_faults import check_points, failure

ENDPOINT_ROWS = 128  # rows over which an endpoint error is taken, whatever the batch size timed
ADAPTIVE_CALLS = 32  # over which that of an adaptive sampler is taken, at most: they are slow
INPUTS = 8  # pairs (observations, noise) that the calls cycle through


# ---------------------------------------------------------------------------------------------- timing


@dataclass(frozen=True)
class Effort:
    """The number of timed calls: `enough` if `seconds` suffice for that, but at least `least`."""

    enough: int = 5000  # fifty of them above the 99th percentile
    seconds: float = 0.12
    least: int = 12  # for a call that is too slow to estimate its 99th percentile


USUAL = Effort()


@dataclass(frozen=True)
class Timing:
    """Percentiles of the time of a call, and the share of a processor that it had."""

    p50_us: float
    p90_us: float
    p99_us: float  # with fewer than a hundred calls: nearly the slowest
    max_us: float
    calls: int  # timed
    cpu_share: float  # processor seconds of our process per second of wall time, > 1 with several threads


def race(
    calls: Sequence[Callable[[], object]], effort: Effort = USUAL, *, warmup: int = 3, rounds: int = 4
) -> list[Timing]:
    """Time each of `calls` with `effort`, after `warmup` untimed calls, in turns: in every round a share of each.

    The order is reversed every round, so that a drift of the machine affects the first and the last call alike.
    """
    share = Effort(
        enough=math.ceil(effort.enough / rounds),
        seconds=effort.seconds / rounds,
        least=math.ceil(effort.least / rounds),
    )
    for call in calls:
        for _ in range(warmup):
            call()
    stretches: list[list[_Stretch]] = [[] for _ in calls]
    order = list(range(len(calls)))
    for _ in range(rounds):
        for index in order:
            stretches[index].append(_timed(calls[index], share))
        order.reverse()
    return [_timing(of_one_call) for of_one_call in stretches]


@dataclass(frozen=True)
class _Stretch:
    """Times of consecutive calls."""

    calls_ns: list[int]
    cpu_ns: int
    wall_ns: int


def _timed(call: Callable[[], object], effort: Effort) -> _Stretch:
    calls_ns: list[int] = []
    with _no_garbage_collection():
        cpu_start, wall_start = time.process_time_ns(), time.perf_counter_ns()
        deadline = wall_start + int(effort.seconds * 1e9)
        now = wall_start
        while len(calls_ns) < (effort.enough if now < deadline else effort.least):
            start = time.perf_counter_ns()
            call()
            now = time.perf_counter_ns()
            calls_ns.append(now - start)
        return _Stretch(calls_ns, time.process_time_ns() - cpu_start, now - wall_start)


def _timing(stretches: Sequence[_Stretch]) -> Timing:
    microseconds = torch.tensor([ns for stretch in stretches for ns in stretch.calls_ns]).double() / 1e3
    p50, p90, p99 = torch.quantile(microseconds, torch.tensor([0.5, 0.9, 0.99]).double()).tolist()
    cpu_share = sum(s.cpu_ns for s in stretches) / sum(s.wall_ns for s in stretches)
    return Timing(p50, p90, p99, float(microseconds.max()), len(microseconds), cpu_share)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# --------------------------------------------------------------------------------------------- samplers

Key = tuple[str, int | None]  # a sampler's name and its number of steps
Inputs = tuple[Tensor, Tensor]  # observations (batch, observation), noise (batch, action)
Numbers = NDArray[np.float32]
Compute = Callable[[Numbers, Numbers], object]
"""Computes the actions of observations (batch, observation) and noise (batch, action), as `Inputs`."""
Backends = Mapping[str, Callable[[Key, Sampler], Compute]]
"""What computes actions, by name: makes the function of a sampler, or raises FlowrlError where it cannot."""


@dataclass(frozen=True)
class FlowInputs:
    """A velocity field with the sizes of its inputs."""

    field: VelocityField
    observation_size: int
    action_size: int

    def draw(self, rows: int, random: torch.Generator) -> Inputs:
        """Draw observations and noise from N(0, 1)."""
        obs = torch.randn(rows, self.observation_size, generator=random)
        return obs, torch.randn(rows, self.action_size, generator=random)


@dataclass(frozen=True)
class Grade:
    """The accuracy of a sampler at one batch size, and its number of velocity evaluations."""

    sampler: str
    steps: int | None  # None: adaptive
    backend: str  # what computed the actions
    batch: int  # actions generated per call
    nfe: float  # velocity evaluations per call, counted; for an adaptive sampler the mean over its calls
    endpoint_error: float  # of its actions, relative to the spread of the exact ones


@dataclass(frozen=True)
class Row(Timing, Grade):
    """One sampler with its number of steps in one backend at one batch size; the times are of one call, not of one
    action.

    The fields come in the order of the document: those of the grade, of the timing, and `pareto`.
    """

    pareto: bool  # no other row of this batch size is both faster (p50) and more accurate

    @property
    def hz(self) -> float:
        """Calls per second that leave half of each period for the rest of a controller, but for one in a hundred."""
        return 1e6 / (2 * self.p99_us)


def bench(
    flow: FlowInputs,
    samplers: Mapping[Key, Sampler],
    batches: Sequence[int],
    seed: int,
    *,
    reference: Sampler,
    backends: Backends | None = None,
    effort: Effort = USUAL,
    report: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Time and grade every sampler of `samplers`, by (name, steps), in every backend at every batch size.

    A timed call generates actions as a robot does, from observations and noise. Without `backends` it is that of torch:
    it binds observations to the field and integrates given noise from t = 0 to t = 1, without gradients. Observations
    and noise are N(0, 1) from `seed`, the same for all samplers. The endpoints of `reference`, an adaptive sampler with
    a tight tolerance, count as exact. All take the last step as a policy does (`flowrl.flow.last_step`). `report` is
    called with a line on each batch size, and on each sampler that raised and is therefore left out.
    """
    random = torch.Generator().manual_seed(seed)
    obs, noise = flow.draw(ENDPOINT_ROWS, random)
    named = {key: last_step.for_field(sampler, flow.field) for key, sampler in samplers.items()}
    exact = reference_endpoints(flow.field, obs, noise, last_step.for_field(reference, flow.field))
    ways = _ways(samplers, backends or in_torch(flow.field), report)
    rows: list[Row] = []
    for batch in batches:
        inputs = [flow.draw(batch, random) for _ in range(INPUTS)]
        report(f"batch {batch}, {len(samplers)} samplers")
        grades: list[Grade] = []
        calls: list[Callable[[], object]] = []
        for key, sampler in named.items():
            name, steps = key
            try:
                nfe = evaluations(flow.field, sampler, inputs)
                endpoints = _endpoints(flow.field, sampler, obs, noise, batch)
                check_points(name, endpoints, noise[: len(endpoints)])
            except BaseException as error:  # a third-party sampler may raise anything: the others go on
                raise_interrupt(error)
                report(f"left out {name}: {error if isinstance(error, FlowrlError) else in_one_line(error)}")
                continue
            found = endpoint_error(endpoints, exact)
            grades += [Grade(name, steps, backend, batch, nfe, found) for backend in ways[key]]
            calls += [_in_turn(name, compute, inputs) for compute in ways[key].values()]
            if not math.isfinite(found):
                which = "the exact ones" if endpoints.isfinite().all() else "its actions"
                report(f"{name}{f':{steps}' if steps else ''} has no error: {which} are not finite, or all the same")
        timings = race(calls, effort)
        errors = [grade.endpoint_error for grade in grades]
        optimal = pareto.front([timing.p50_us for timing in timings], errors, better="lower")
        rows += [
            Row(**vars(grade), **vars(timing), pareto=bool(mark))
            for grade, timing, mark in zip(grades, timings, optimal, strict=True)
        ]
    return rows


def in_torch(field: VelocityField) -> Backends:
    """Return the backend that integrates `field` with a sampler in torch."""

    def make(key: Key, sampler: Sampler) -> Compute:
        integrator = last_step.for_field(sampler, field)
        return lambda obs, noise: generate(field, integrator, torch.from_numpy(obs), torch.from_numpy(noise))

    return {"torch": make}


def _ways(
    samplers: Mapping[Key, Sampler], backends: Backends, report: Callable[[str], None]
) -> dict[Key, dict[str, Compute]]:
    """Make the function of each sampler in each backend; what a backend cannot compute is reported and left out."""
    ways: dict[Key, dict[str, Compute]] = {key: {} for key in samplers}
    for (name, steps), sampler in samplers.items():
        for backend, make in backends.items():
            try:
                ways[name, steps][backend] = make((name, steps), sampler)
            except FlowrlError as error:
                report(f"left out {name} in {backend}: {error}")
    return ways


def generate(field: VelocityField, sampler: Sampler, obs: Tensor, noise: Tensor) -> Tensor:
    """Generate actions (batch, action) for `obs` (batch, observation) from `noise` (batch, action)."""
    with torch.inference_mode():
        return sampler(field.bind(obs), noise, 0.0, 1.0)


def evaluations(field: VelocityField, sampler: Sampler, inputs: Sequence[Inputs]) -> float:
    """Return the mean number of velocity evaluations (NFE) per call over `inputs`."""
    if _has_fixed_grid(sampler):
        inputs = inputs[:1]
    count = 0
    for obs, noise in inputs:
        with torch.inference_mode():
            velocity = CountingVelocity(field.bind(obs))
            sampler(velocity, noise, 0.0, 1.0)
        count += velocity.nfe
    return count / len(inputs)


def reference_endpoints(field: VelocityField, obs: Tensor, noise: Tensor, reference: Sampler) -> Tensor:
    """Integrate `noise` (rows, action) with `reference`: in float64 if `field` can, else in float32."""
    exact_field = copy.deepcopy(field).double() if isinstance(field, nn.Module) else field
    if not _computes_in_float64(exact_field, obs[:1], noise[:1]):
        return generate(field, reference, obs, noise)
    return generate(exact_field, reference, obs.double(), noise.double())


def _computes_in_float64(field: VelocityField, obs: Tensor, noise: Tensor) -> bool:
    try:
        velocity = field.bind(obs.double())(noise.double(), 0.5)
    except RuntimeError:  # PyTorch refuses to multiply matrices of different precision
        return False
    return velocity.dtype == torch.float64


def endpoint_error(endpoints: Tensor, exact: Tensor) -> float:
    """Return the distance of `endpoints` to the first of the `exact` ones (rows, action), relative to their spread.

    sqrt(mean (x - y)²) / sqrt(mean over action dimensions of Var over rows of y)
    """
    difference = (endpoints.to(exact.dtype) - exact[: len(endpoints)]).square().mean().sqrt()
    spread = exact.var(dim=0, correction=0).mean().sqrt()
    return float(difference / spread)


def _in_turn(name: str, compute: Compute, inputs: Sequence[Inputs]) -> Callable[[], object]:
    """Return a call without arguments that cycles through `inputs`; `name` is the sampler's, for its failure."""
    arrays, turn = [(obs.numpy(), noise.numpy()) for obs, noise in inputs], 0

    def call() -> object:
        nonlocal turn
        obs, noise = arrays[turn % len(arrays)]
        turn += 1
        try:
            return compute(obs, noise)
        except BaseException as error:
            raise failure(name, error) from error

    return call


def _endpoints(field: VelocityField, sampler: Sampler, obs: Tensor, noise: Tensor, batch: int) -> Tensor:
    """Integrate `noise` with `sampler`; with an adaptive one at most the first rows."""
    # Rows of one call share the steps of an adaptive sampler: there the error depends on the batch size.
    size = len(noise) if _has_fixed_grid(sampler) else min(batch, len(noise))
    starts = range(0, len(noise), size)[:ADAPTIVE_CALLS]
    return torch.cat([generate(field, sampler, obs[i : i + size], noise[i : i + size]) for i in starts])


def _has_fixed_grid(sampler: Sampler) -> bool:
    """Return whether the NFE is the same for every input (see `flowrl.contracts.protocols.Sampler`)."""
    return isinstance(getattr(sampler, "nfe", None), int)
