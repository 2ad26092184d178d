"""The sampler of fitted numbers: by hand, as the methods that it contains, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.samplers import registry
from flowrl.samplers.conformance import check_conformance
from flowrl_samplers.euler import Euler
from flowrl_samplers.fitted import Fitted
from flowrl_samplers.heun import Heun

TWO = Fitted((0.0, 0.5), ((0.5,), (0.5, 0.5)))


def curved(x: Tensor, t: float | Tensor) -> Tensor:
    return torch.sin(3 * x) + t


def test_two_nodes_by_hand() -> None:
    """v = x + t from 1: v0 = 1, x1 = 1 + 0.2 · 1 = 1.2, v1 = 1.2 + 0.4 = 1.6, x2 = 1 + 0.3 · 1 + 0.7 · 1.6 = 2.42."""
    sampler = Fitted((0.0, 0.4), ((0.2,), (0.3, 0.7)))
    end = sampler(lambda x, t: x + t, torch.ones(1, 1, dtype=torch.float64), 0.0, 1.0)
    assert end.item() == pytest.approx(2.42, rel=1e-12)


def test_between_other_times_the_numbers_are_scaled() -> None:
    """From 1 to 0.5, h = -0.5: t = 1, 0.8; v0 = 1 + 1 = 2, x1 = 1 - 0.1 · 2 = 0.8, v1 = 1.6,
    x2 = 1 - 0.15 · 2 - 0.35 · 1.6 = 0.14."""
    sampler = Fitted((0.0, 0.4), ((0.2,), (0.3, 0.7)))
    assert [node.t for node in sampler.plan(1.0, 0.5).nodes] == pytest.approx([1.0, 0.8])
    end = sampler(lambda x, t: x + t, torch.ones(1, 1, dtype=torch.float64), 1.0, 0.5)
    assert end.item() == pytest.approx(0.14, rel=1e-12)


def test_euler_and_heun_are_fitted_samplers() -> None:
    x = torch.linspace(-1, 1, 6).double().view(3, 2)
    torch.testing.assert_close(TWO(curved, x, 0.0, 1.0), Euler(2)(curved, x, 0.0, 1.0), rtol=0, atol=1e-15)
    heun = Fitted((0.0, 0.5, 0.75), ((0.5,), (0.25, 0.25), (0.0, 0.0, 1.0)))
    assert heun.nfe == 3 and heun.plan(0.0, 1.0).memory == 3
    one = Heun(1)(curved, x, 0.0, 1.0)
    two = Fitted((0.0, 1 - 1e-15), ((1.0,), (0.5, 0.5)))(curved, x, 0.0, 1.0)
    torch.testing.assert_close(two, one, rtol=0, atol=1e-13)


def test_it_conforms_and_its_accuracy_on_other_velocities_is_only_reported() -> None:
    results = check_conformance(lambda: TWO)
    assert [result.property for result in results if result.passed is False] == []
    reported = [result.property for result in results if result.passed is None]
    assert reported == ["converges forward in time", "converges backward in time"]


@pytest.mark.parametrize(
    ("times", "weights", "message"),
    [
        ((), (), "name a file of fitted numbers"),
        ((0.0, 0.0), ((0.5,), (0.5, 0.5)), "must rise"),
        ((0.0, 1.0), ((0.5,), (0.5, 0.5)), "must rise within"),
        ((-0.1,), ((1.0,),), "must rise within"),
        ((math.nan,), ((1.0,),), "must rise within"),
        ((0.0, 0.5), ((0.5,), (0.5,)), "weights must be rows of 1 to 2 numbers"),
        ((0.0, 0.5), ((0.5, 0.0), (0.5, 0.5)), "weights must be rows of 1 to 2 numbers"),
        ((0.0,), ((math.inf,),), "weights must be finite"),
        ((0.0,), ((1e6,),), "weights must be finite numbers within"),
        (tuple(k / 65 for k in range(65)), (), "at most 64"),
    ],
)
def test_other_numbers_are_refused(times: tuple[float, ...], weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fitted(times, weights)


def test_the_registry_makes_it_of_lists_but_opens_no_file() -> None:
    made = registry.make("fitted", {"times": [0, 0.5], "weights": [[0.5], [0.5, 0.5]]})
    assert made == TWO
    with pytest.raises(UsageError, match="opened only where you name it"):
        registry.make("fitted-4.yaml")
    assert "fitted" in registry.names() and "fitted" not in registry.general()
