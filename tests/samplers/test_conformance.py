"""The conformance test accepts the built-ins and finds every planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from flowrl.samplers import registry
from flowrl.samplers.conformance import PROPERTIES, check_conformance

Velocity = Callable[[Tensor, float], Tensor]


@pytest.mark.parametrize("name", registry.general())
def test_built_ins_conform(name: str) -> None:
    results = check_conformance(lambda **options: registry.make(name, options))
    assert len(results) == len(PROPERTIES) == 9
    failed = [result for result in results if result.passed is False]
    assert failed == []


def euler(velocity: Velocity, x: Tensor, t0: float, t1: float, steps: int) -> Tensor:
    h = (t1 - t0) / steps
    for k in range(steps):
        x = x + h * velocity(x, t0 + h * k)
    return x


@dataclass
class Plain:
    steps: int = 10
    order = 1

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x, t0, t1, self.steps)


class ClaimsTooMuch(Plain):
    order = 2


class ForwardOnly(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x, t0, t0 + abs(t1 - t0), self.steps)


class Inexact(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x, t0, t1 + (t1 - t0) * 1e-9, self.steps)


class Widens(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x.double(), t0, t1, self.steps)


class InPlace(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return x.copy_(euler(velocity, x, t0, t1, self.steps))


class Shares(Plain):
    """Goes nowhere: its result is the caller's noise itself, which a later change of one would change in the other."""

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return x.view_as(x)


@dataclass
class Remembers(Plain):
    calls: list[int] = field(default_factory=list)

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        self.calls.append(1)
        return euler(velocity, x, t0, t1, self.steps + len(self.calls))


class Overshoots(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        velocity(x, t1 + (t1 - t0) / 10)
        return euler(velocity, x, t0, t1, self.steps)


class Miscounts(Plain):
    nfe = 11


class MixesRows(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x, t0, t1, self.steps + len(x) // 2)


class Raises(Plain):
    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        if x.dtype == torch.float32:
            raise TypeError("double, please")
        return euler(velocity, x, t0, t1, self.steps)


@pytest.mark.parametrize(
    ("sampler", "failing"),
    [
        (Plain, set()),
        (ClaimsTooMuch, {"converges forward in time", "converges backward in time"}),
        (ForwardOnly, {"converges backward in time", "evaluates only between t0 and t1"}),
        (Inexact, {"moves exactly along a constant velocity"}),
        (Widens, {"keeps shape and dtype"}),
        (InPlace, {"does not change its input"}),
        (Shares, {"does not change its input", "converges forward in time"}),
        (Remembers, {"is stateless"}),
        (Overshoots, {"evaluates only between t0 and t1"}),
        (Miscounts, {"evaluates as often as declared"}),
        (MixesRows, {"treats rows independently"}),
        (Raises, {"keeps shape and dtype"}),
    ],
)
def test_each_fault_is_found(sampler: type[Plain], failing: set[str]) -> None:
    found = {result.property for result in check_conformance(sampler) if result.passed is False}
    assert failing <= found
    # a fault may fail several properties, a correct sampler none
    assert bool(found) == bool(failing)


def test_an_exception_is_reported_as_the_measurement() -> None:
    measured = {result.property: result.measured for result in check_conformance(Raises)}
    assert measured["keeps shape and dtype"] == "TypeError: double, please"


@dataclass
class Adaptive:
    """Exact up to `shift`."""

    rtol: float = 1e-4
    shift: float = 0.0

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return euler(velocity, x, t0, t1, 2000) + self.shift


@pytest.mark.slow
def test_adaptive_samplers_are_checked_against_their_tolerance() -> None:
    assert [f.passed for f in check_conformance(lambda: Adaptive())[:2]] == [True, True]
    shifted = check_conformance(lambda: Adaptive(shift=2e-3))
    assert [f.passed for f in shifted[:2]] == [False, False]  # 2e-3 > 10 * 1e-4
