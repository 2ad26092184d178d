"""How long one whole action takes: samplers timed side by side, each with its error.

Candidates take turns, so that what disturbs one disturbs all; whether the machine was quiet enough for the
figures to mean anything is said by `flowrl.evaluation.machine`.
"""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.evaluation import pareto
from flowrl.flow.nfe import CountingVelocity

ENDPOINT_ROWS = 128  # rows over which an endpoint error is taken, whatever the batch size timed
ADAPTIVE_CALLS = 32  # over which that of an adaptive sampler is taken, at most: they are slow
INPUTS = 8  # pairs (observations, noise) that the calls go round, so that no single draw is the figure


# ---------------------------------------------------------------------------------------------- timing


@dataclass(frozen=True)
class Effort:
    """How often a call is timed: `enough` times if `seconds` suffice for that, but never less than `least`."""

    enough: int = 200  # two of them above the 99th percentile
    seconds: float = 0.12
    least: int = 12  # of a call so slow that its 99th percentile is out of reach


USUAL = Effort()


@dataclass(frozen=True)
class Timing:
    """What a call cost, and the processor it got meanwhile."""

    p50_us: float
    p90_us: float
    p99_us: float  # of fewer than a hundred calls: nearly the slowest
    calls: int  # that the percentiles rest on
    cpu_share: float  # processor seconds of our process per second of wall time, > 1 with several threads


def measure(call: Callable[[], object], effort: Effort = USUAL, *, warmup: int = 3) -> Timing:
    """Time `call` with `effort`, after `warmup` untimed calls."""
    return race([call], effort, warmup=warmup, rounds=1)[0]


def race(
    calls: Sequence[Callable[[], object]],
    effort: Effort = USUAL,
    *,
    warmup: int = 3,
    rounds: int = 4,
) -> list[Timing]:
    """Time each of `calls` as `measure` does, but in turns: a share of each, then the next share of each.

    The order is reversed every round, so that a drift of the machine hits first and last alike.
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
    """Calls timed one after the other."""

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
    return Timing(p50, p90, p99, len(microseconds), cpu_share)


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

Inputs = tuple[Tensor, Tensor]  # observations (batch, observation), noise (batch, action)


@dataclass(frozen=True)
class Grade:
    """What a sampler gives at one batch size, and what it asks of the network."""

    nfe: float  # velocity evaluations per call, counted; for an adaptive sampler the mean over its calls
    endpoint_error: float  # of its actions, relative to the spread of the exact ones


@dataclass(frozen=True)
class Row:
    """One sampler with its number of steps (None: adaptive) at one batch size; as in `Grade` and `Timing`."""

    sampler: str
    steps: int | None
    batch: int  # actions generated per call
    nfe: float
    endpoint_error: float
    p50_us: float  # of one call, not of one action
    p90_us: float
    p99_us: float
    calls: int
    cpu_share: float
    pareto: bool  # no other row of this batch size is both faster (p50) and nearer


def bench(
    field: VelocityField,
    observation_size: int,
    action_size: int,
    samplers: Mapping[tuple[str, int | None], Sampler],
    batches: Sequence[int],
    seed: int,
    *,
    reference: Sampler,
    effort: Effort = USUAL,
    report: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Time and grade every sampler of `samplers`, by (name, steps), at every batch size.

    What is timed is one whole generation of actions as a robot pays for it: the observations bound to
    `field`, and given noise carried from t = 0 to t = 1, without gradients. Observations and noise are
    N(0, 1) from `seed`, the same for all. `reference` is a sampler so exact that its endpoints count as the
    truth: an adaptive one with a tight tolerance. `report` hears what is being measured, and which sampler
    raised and was therefore left out.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(rows: int) -> Inputs:
        obs = torch.randn(rows, observation_size, generator=random)
        return obs, torch.randn(rows, action_size, generator=random)

    obs, noise = draw(ENDPOINT_ROWS)
    exact = reference_endpoints(field, obs, noise, reference)
    rows: list[Row] = []
    for batch in batches:
        inputs = [draw(batch) for _ in range(INPUTS)]
        report(f"batch {batch}, {len(samplers)} samplers")
        grades: dict[tuple[str, int | None], Grade] = {}
        for key, sampler in samplers.items():
            try:
                nfe = evaluations(field, sampler, inputs)
                endpoints = _endpoints(field, sampler, obs, noise, batch)
                grades[key] = Grade(nfe, endpoint_error(endpoints, exact))
            except Exception as failure:  # a stranger's sampler may raise anything: the others go on
                report(f"left out {key[0]}: {type(failure).__name__}: {failure}")
        timings = race([_in_turn(field, samplers[key], inputs) for key in grades], effort)
        optimal = pareto.front(
            [timing.p50_us for timing in timings],
            [grade.endpoint_error for grade in grades.values()],
            better="lower",
        )
        rows += [
            Row(sampler=name, steps=steps, batch=batch, pareto=bool(mark), **vars(grade), **vars(timing))
            for ((name, steps), grade), timing, mark in zip(grades.items(), timings, optimal, strict=True)
        ]
    return rows


def generate(field: VelocityField, sampler: Sampler, obs: Tensor, noise: Tensor) -> Tensor:
    """Actions (batch, action) for `obs` (batch, observation) from `noise` (batch, action), no gradients."""
    with torch.inference_mode():
        return sampler(field.bind(obs), noise, 0.0, 1.0)


def evaluations(field: VelocityField, sampler: Sampler, inputs: Sequence[Inputs]) -> float:
    """Mean number of velocity evaluations (NFE) per call over `inputs`."""
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
    """Where `reference` carries `noise` (rows, action): in float64 if `field` can, else in float32."""
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
    """Distance of `endpoints` to the first of the `exact` ones (rows, action), relative to the exact ones' spread.

    sqrt(mean (x - y)²) / sqrt(mean over action dimensions of Var over rows of y)
    """
    difference = (endpoints.to(exact.dtype) - exact[: len(endpoints)]).square().mean().sqrt()
    spread = exact.var(dim=0, correction=0).mean().sqrt()
    return float(difference / spread)


def _in_turn(field: VelocityField, sampler: Sampler, inputs: Sequence[Inputs]) -> Callable[[], Tensor]:
    """A call without arguments that goes round `inputs`."""
    turn = 0

    def call() -> Tensor:
        nonlocal turn
        obs, noise = inputs[turn % len(inputs)]
        turn += 1
        return generate(field, sampler, obs, noise)

    return call


def _endpoints(field: VelocityField, sampler: Sampler, obs: Tensor, noise: Tensor, batch: int) -> Tensor:
    """Where `sampler` carries `noise`, or as much of it as an adaptive sampler is given."""
    # Rows of one call share the steps of an adaptive sampler: there the error depends on the batch size.
    size = len(noise) if _has_fixed_grid(sampler) else min(batch, len(noise))
    starts = range(0, len(noise), size)[:ADAPTIVE_CALLS]
    return torch.cat([generate(field, sampler, obs[i : i + size], noise[i : i + size]) for i in starts])


def _has_fixed_grid(sampler: Sampler) -> bool:
    """Does it cost the same for every input? Then it says so beforehand (see `flowrl.contracts.protocols.Sampler`)."""
    return isinstance(getattr(sampler, "nfe", None), int)
