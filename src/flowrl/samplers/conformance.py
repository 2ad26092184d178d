"""The conformance test of samplers: the properties that flowrl relies on, each measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.protocols import Sampler

GRIDS = (8, 16, 32, 64, 128, 256)  # steps on which an order is measured
ROUND_OFF = 1e-12  # an order cannot be measured from errors below this
ORDER_SLACK = 0.2  # a measured order may be this much below the declared one

# The logistic equation y' = y (1 - y), y(0) = 0.2, to T = 2: generic; on a Gaussian's flow midpoint
# would look like order 3. Exact: y(T) = y0 e^T / (1 - y0 + y0 e^T).
START, HORIZON = 0.2, 2.0
END = START * math.exp(HORIZON) / (1 - START + START * math.exp(HORIZON))

Measurement = tuple[bool | None, str]  # ConformanceResult.passed and .measured


@dataclass(frozen=True)
class ConformanceResult:
    """The result of checking one property of a sampler."""

    property: str
    passed: bool | None  # None: only reported, not required
    measured: str


@dataclass(frozen=True)
class SamplerUnderTest:
    """A sampler, and how to make it with other options."""

    sampler: Sampler
    build: Callable[..., Sampler]


@dataclass
class Logistic:
    """The velocity of the logistic equation; it records the times at which it is evaluated."""

    times: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.times.append(float(t))
        return x * (1 - x)


def check_conformance(build: Callable[..., Sampler], steps: int | None = None) -> list[ConformanceResult]:
    """Check every property of the sampler that `build()`, or `build(steps=steps)`, makes.

    A property whose check raises has failed; its result reports the exception.
    """
    tested = SamplerUnderTest(build() if steps is None else build(steps=steps), build)
    return [_check(measure, tested) for measure in PROPERTIES]


def _check(measure: Callable[[SamplerUnderTest], Measurement], tested: SamplerUnderTest) -> ConformanceResult:
    name = measure.__name__.replace("_", " ")
    try:
        return ConformanceResult(name, *measure(tested))
    except BaseException as error:
        raise_interrupt(error)
        return ConformanceResult(name, False, f"{type(error).__name__}: {error}")


def converges_forward_in_time(tested: SamplerUnderTest) -> Measurement:
    """Integrate from y(0) to y(T)."""
    return _convergence(tested, START, END)


def converges_backward_in_time(tested: SamplerUnderTest) -> Measurement:
    """Integrate from y(T) back to y(0)."""
    return _convergence(tested, END, START)


def _convergence(tested: SamplerUnderTest, start: float, end: float) -> Measurement:
    if hasattr(tested.sampler, "steps"):
        return _order(tested, start, end)
    return _accuracy(tested.sampler, start, end)


def _order(tested: SamplerUnderTest, start: float, end: float) -> Measurement:
    """Measure the order p of error ~ N^-p on the two finest grids whose errors are above round-off."""
    errors = [(steps, _logistic_error(tested.build(steps=steps), start, end)) for steps in GRIDS]
    measurable = [(steps, error) for steps, error in errors if not error <= ROUND_OFF]
    if len(measurable) < 2:
        return True, f"exact to round-off from {GRIDS[1]} steps on"
    (coarse, larger), (fine, smaller) = measurable[-2:]
    measured = math.log(larger / smaller) / math.log(fine / coarse)
    declared = getattr(tested.sampler, "order", None)
    least = ORDER_SLACK if declared is None else declared - ORDER_SLACK
    comparison = "none declared" if declared is None else f"declared {declared}"
    return measured >= least, f"order {measured:.2f} at {fine} steps, {comparison}"


def _accuracy(sampler: Sampler, start: float, end: float) -> Measurement:
    """Bound the error by 10 (rtol + atol), for a tolerance bounds each step's error; by 0.01 without them."""
    tolerance = getattr(sampler, "rtol", 0.0) + getattr(sampler, "atol", 0.0)
    bound = 10 * tolerance if tolerance else 1e-2
    error = _logistic_error(sampler, start, end)
    if getattr(sampler, "specific", False):
        return None, f"error {error:.1e}; it was made for another velocity"
    return error <= bound, f"error {error:.1e}, bound {bound:.1e}"


def _logistic_error(sampler: Sampler, start: float, end: float) -> float:
    """Compute |sampler's y - exact y| after the time HORIZON from `start` to `end` (or back)."""
    t0, t1 = (0.0, HORIZON) if start < end else (HORIZON, 0.0)
    return abs(sampler(Logistic(), torch.full((1, 1), start, dtype=torch.float64), t0, t1).item() - end)


def moves_exactly_along_a_constant_velocity(tested: SamplerUnderTest) -> Measurement:
    """Check that x' = c gives x + c (t1 - t0), which every consistent method does."""
    x, c = _points(4, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = tested.sampler(lambda x, t: c.expand_as(x), x, 0.25, 1.0)
    error = (moved - (x + 0.75 * c)).abs().max().item()
    return error <= ROUND_OFF, f"error {error:.1e}"


def keeps_shape_and_dtype(tested: SamplerUnderTest) -> Measurement:
    """Check (batch, action) in float32 and in float64, batch 1 included."""
    for dtype in (torch.float32, torch.float64):
        for rows in (1, 5):
            x = _points(rows, 3).to(dtype)
            moved = tested.sampler(Logistic(), x, 0.0, 1.0)
            if (moved.shape, moved.dtype) != (x.shape, dtype):
                return False, f"{tuple(moved.shape)} {moved.dtype} from {tuple(x.shape)} {dtype}"
    return True, "float32 and float64, batch 1 and 5"


def does_not_change_its_input(tested: SamplerUnderTest) -> Measurement:
    """Check that the caller's noise is unchanged, and that the result does not share its memory."""
    x = _points(4, 3)
    before = x.clone()
    moved = tested.sampler(Logistic(), x, 0.0, 1.0)
    if not torch.equal(x, before):
        return False, "x was overwritten"
    shared = moved.data_ptr() == x.data_ptr()
    return not shared, "the result shares x's memory" if shared else "x is unchanged"


def is_stateless(tested: SamplerUnderTest) -> Measurement:
    """Check that two equal calls, with another in between, give equal bits."""
    x = _points(4, 3)
    first = tested.sampler(Logistic(), x, 0.0, 1.0)
    tested.sampler(Logistic(), 2 * x, 1.0, 0.5)
    same = torch.equal(first, tested.sampler(Logistic(), x, 0.0, 1.0))
    return same, "equal calls give equal bits" if same else "an equal call later gives another result"


def evaluates_only_between_t0_and_t1(tested: SamplerUnderTest) -> Measurement:
    """Check the times of evaluation: beyond the interval a network has not been trained."""
    velocity = Logistic()
    tested.sampler(velocity, _points(4, 3), 0.0, 1.0)
    tested.sampler(velocity, _points(4, 3), 1.0, 0.0)
    least, most = min(velocity.times), max(velocity.times)
    return least >= -1e-6 and most <= 1 + 1e-6, f"from {least:g} to {most:g}, of [0, 1]"


def evaluates_as_often_as_declared(tested: SamplerUnderTest) -> Measurement:
    """Check that `nfe`, where the sampler has it, is the number of velocity evaluations of one call."""
    velocity = Logistic()
    tested.sampler(velocity, _points(4, 3), 0.0, 1.0)
    counted, declared = len(velocity.times), getattr(tested.sampler, "nfe", None)
    if declared is None:
        return None, f"{counted} counted, none declared"
    return counted == declared, f"{counted} counted, declared {declared}"


def treats_rows_independently(tested: SamplerUnderTest) -> Measurement:
    """Check that a row's result has the same bits in any batch; for adaptive methods this is only reported."""
    x = _points(5, 3)
    together = tested.sampler(Logistic(), x, 0.0, 1.0)
    alone = torch.cat([tested.sampler(Logistic(), row[None], 0.0, 1.0) for row in x])
    if torch.equal(together, alone):
        return True, "alone and in a batch: equal bits"
    difference = f"alone and in a batch: they differ by {(together - alone).abs().max().item():.1e}"
    return (False if hasattr(tested.sampler, "steps") else None), difference


PROPERTIES: tuple[Callable[[SamplerUnderTest], Measurement], ...] = (
    converges_forward_in_time,
    converges_backward_in_time,
    moves_exactly_along_a_constant_velocity,
    keeps_shape_and_dtype,
    does_not_change_its_input,
    is_stateless,
    evaluates_only_between_t0_and_t1,
    evaluates_as_often_as_declared,
    treats_rows_independently,
)


def _points(rows: int, size: int) -> Tensor:
    """Make points (rows, size) between 0.1 and 0.9, the same in every call."""
    return torch.linspace(0.1, 0.9, rows * size, dtype=torch.float64).reshape(rows, size)
