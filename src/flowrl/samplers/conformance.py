"""What every sampler must do, measured on any of them: `flowrl samplers check NAME`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowrl.contracts.protocols import Sampler

GRIDS = (8, 16, 32, 64, 128, 256)  # steps on which an order is measured
ROUND_OFF = 1e-12  # errors below this say nothing about an order
ORDER_SLACK = 0.2  # a measured order may lie this much below the declared one

# The logistic equation y' = y (1 - y), y(0) = 0.2, to T = 2: generic, where a Gaussian's flow makes midpoint
# look like order 3. Exact: y(T) = y0 e^T / (1 - y0 + y0 e^T).
START, HORIZON = 0.2, 2.0
END = START * math.exp(HORIZON) / (1 - START + START * math.exp(HORIZON))

Verdict = tuple[bool | None, str]  # passed (None: only reported, not required), and what was measured


@dataclass(frozen=True)
class ConformanceResult:
    """One property of a sampler."""

    property: str
    passed: bool | None  # None: only reported, not required
    measured: str


@dataclass(frozen=True)
class SamplerUnderTest:
    """The sampler under test, and how to make it with other options."""

    sampler: Sampler
    build: Callable[..., Sampler]


@dataclass
class Logistic:
    """The logistic velocity, which remembers the times it was asked for."""

    times: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.times.append(float(t))
        return x * (1 - x)


def examine(build: Callable[..., Sampler], steps: int | None = None) -> list[ConformanceResult]:
    """Measure every property on the sampler that `build()` makes, or `build(steps=steps)`.

    A property whose measurement raises has failed, with the exception as what was measured.
    """
    subject = SamplerUnderTest(build() if steps is None else build(steps=steps), build)
    return [_finding(measure, subject) for measure in PROPERTIES]


def _finding(measure: Callable[[SamplerUnderTest], Verdict], subject: SamplerUnderTest) -> ConformanceResult:
    name = measure.__name__.replace("_", " ")
    try:
        return ConformanceResult(name, *measure(subject))
    except Exception as error:
        return ConformanceResult(name, False, f"{type(error).__name__}: {error}")


def converges_forward_in_time(subject: SamplerUnderTest) -> Verdict:
    """From y(0) to y(T)."""
    return _convergence(subject, START, END)


def converges_backward_in_time(subject: SamplerUnderTest) -> Verdict:
    """From y(T) back to y(0)."""
    return _convergence(subject, END, START)


def _convergence(subject: SamplerUnderTest, start: float, end: float) -> Verdict:
    if hasattr(subject.sampler, "steps"):
        return _order(subject, start, end)
    return _accuracy(subject.sampler, start, end)


def _order(subject: SamplerUnderTest, start: float, end: float) -> Verdict:
    """Order p: error ~ N^-p, from the two finest grids whose errors still stand clear of round-off."""
    errors = [(steps, _logistic_error(subject.build(steps=steps), start, end)) for steps in GRIDS]
    clear = [(steps, error) for steps, error in errors if not error <= ROUND_OFF]
    if len(clear) < 2:
        return True, f"exact to round-off from {GRIDS[1]} steps on"
    (coarse, larger), (fine, smaller) = clear[-2:]
    measured = math.log(larger / smaller) / math.log(fine / coarse)
    declared = getattr(subject.sampler, "order", None)
    least = ORDER_SLACK if declared is None else declared - ORDER_SLACK
    said = "none declared" if declared is None else f"declared {declared}"
    return measured >= least, f"order {measured:.2f} at {fine} steps, {said}"


def _accuracy(sampler: Sampler, start: float, end: float) -> Verdict:
    """Within 10 (rtol + atol), as a tolerance bounds each step's error, not their sum; else within 0.01."""
    tolerance = getattr(sampler, "rtol", 0.0) + getattr(sampler, "atol", 0.0)
    bound = 10 * tolerance if tolerance else 1e-2
    error = _logistic_error(sampler, start, end)
    return error <= bound, f"error {error:.1e}, bound {bound:.1e}"


def _logistic_error(sampler: Sampler, start: float, end: float) -> float:
    """|sampler's y - exact y| after y' = y (1 - y) from `start` to `end`, which lie HORIZON apart in time."""
    t0, t1 = (0.0, HORIZON) if start < end else (HORIZON, 0.0)
    return abs(sampler(Logistic(), torch.full((1, 1), start, dtype=torch.float64), t0, t1).item() - end)


def moves_exactly_along_a_constant_velocity(subject: SamplerUnderTest) -> Verdict:
    """x' = c gives x + c (t1 - t0), whatever the method."""
    x, c = _points(4, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = subject.sampler(lambda x, t: c.expand_as(x), x, 0.25, 1.0)
    error = (moved - (x + 0.75 * c)).abs().max().item()
    return error <= ROUND_OFF, f"error {error:.1e}"


def keeps_shape_and_dtype(subject: SamplerUnderTest) -> Verdict:
    """(batch, action) in float32 and in float64, batch 1 included."""
    for dtype in (torch.float32, torch.float64):
        for rows in (1, 5):
            x = _points(rows, 3).to(dtype)
            moved = subject.sampler(Logistic(), x, 0.0, 1.0)
            if (moved.shape, moved.dtype) != (x.shape, dtype):
                return False, f"{tuple(moved.shape)} {moved.dtype} from {tuple(x.shape)} {dtype}"
    return True, "float32 and float64, batch 1 and 5"


def leaves_its_input_alone(subject: SamplerUnderTest) -> Verdict:
    """The caller's noise is unchanged, and the result is not the same memory."""
    x = _points(4, 3)
    before = x.clone()
    moved = subject.sampler(Logistic(), x, 0.0, 1.0)
    if not torch.equal(x, before):
        return False, "x was overwritten"
    shared = moved.data_ptr() == x.data_ptr()
    return not shared, "the result shares x's memory" if shared else "x is unchanged"


def is_stateless(subject: SamplerUnderTest) -> Verdict:
    """Two equal calls, another in between, give equal bits."""
    x = _points(4, 3)
    first = subject.sampler(Logistic(), x, 0.0, 1.0)
    subject.sampler(Logistic(), 2 * x, 1.0, 0.5)
    same = torch.equal(first, subject.sampler(Logistic(), x, 0.0, 1.0))
    return same, "equal calls give equal bits" if same else "an equal call later gives something else"


def asks_only_for_times_between_t0_and_t1(subject: SamplerUnderTest) -> Verdict:
    """A network has learned the times of its interval; beyond them it answers nonsense."""
    velocity = Logistic()
    subject.sampler(velocity, _points(4, 3), 0.0, 1.0)
    subject.sampler(velocity, _points(4, 3), 1.0, 0.0)
    least, most = min(velocity.times), max(velocity.times)
    return least >= -1e-6 and most <= 1 + 1e-6, f"from {least:g} to {most:g}, of [0, 1]"


def evaluates_as_often_as_declared(subject: SamplerUnderTest) -> Verdict:
    """`nfe`, where the sampler has it, is the number of times that one call evaluates the velocity."""
    velocity = Logistic()
    subject.sampler(velocity, _points(4, 3), 0.0, 1.0)
    counted, declared = len(velocity.times), getattr(subject.sampler, "nfe", None)
    if declared is None:
        return None, f"{counted} counted, none declared"
    return counted == declared, f"{counted} counted, declared {declared}"


def treats_rows_independently(subject: SamplerUnderTest) -> Verdict:
    """A row's result has the same bits whatever rows stand beside it; adaptive methods share a step size."""
    x = _points(5, 3)
    together = subject.sampler(Logistic(), x, 0.0, 1.0)
    alone = torch.cat([subject.sampler(Logistic(), row[None], 0.0, 1.0) for row in x])
    if torch.equal(together, alone):
        return True, "alone and in a batch: equal bits"
    apart = f"alone and in a batch: {(together - alone).abs().max().item():.1e} apart"
    return (False if hasattr(subject.sampler, "steps") else None), apart


PROPERTIES: tuple[Callable[[SamplerUnderTest], Verdict], ...] = (
    converges_forward_in_time,
    converges_backward_in_time,
    moves_exactly_along_a_constant_velocity,
    keeps_shape_and_dtype,
    leaves_its_input_alone,
    is_stateless,
    asks_only_for_times_between_t0_and_t1,
    evaluates_as_often_as_declared,
    treats_rows_independently,
)


def _points(rows: int, size: int) -> Tensor:
    """Points (rows, size) between 0.1 and 0.9, the same in every call."""
    return torch.linspace(0.1, 0.9, rows * size, dtype=torch.float64).reshape(rows, size)
