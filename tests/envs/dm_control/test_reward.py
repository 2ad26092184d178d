"""`tolerance` in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import gaussian, linear, quadratic, tolerance

Sigmoid = Callable[[Tensor, float], Tensor]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_within_the_bounds_it_is_exactly_one() -> None:
    x = numbers(-1, -0.3, 0, 2)
    for sigmoid in (gaussian, linear, quadratic):
        assert tolerance(x, (-1, 2), margin=0.7, sigmoid=sigmoid).tolist() == [1, 1, 1, 1]
    assert tolerance(x, (-1, 2)).tolist() == [1, 1, 1, 1]


def test_without_a_margin_it_is_zero_outside() -> None:
    x = numbers(-1 - 1e-15, 2 + 1e-15, 100)
    assert tolerance(x, (-1, 2)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("sigmoid", [gaussian, linear, quadratic])
@pytest.mark.parametrize("value", [0.1, 0.4])
def test_value_at_margin_is_left_at_the_margin_on_both_sides(sigmoid: Sigmoid, value: float) -> None:
    x = numbers(-1 - 0.5, 2 + 0.5)
    found = tolerance(x, (-1, 2), margin=0.5, sigmoid=sigmoid, value_at_margin=value)
    torch.testing.assert_close(found, numbers(value, value), rtol=0, atol=1e-15)


def test_gaussian() -> None:
    """value^(d²): with 0.1 at the margin, 0.1^(1/4) = 0.5623413 half-way and 0.1^4 = 0.0001 at twice the margin."""
    found = tolerance(numbers(1, 4), margin=2)
    torch.testing.assert_close(found, numbers(0.1**0.25, 1e-4), rtol=1e-13, atol=0)


def test_linear() -> None:
    """With 0 at the margin of 10: speed 2.5 of 10 gives 0.25, standing and running backwards 0."""
    x = numbers(2.5, 0, -3, 10, 12)
    found = tolerance(x, (10, math.inf), margin=10, sigmoid=linear, value_at_margin=0)
    torch.testing.assert_close(found, numbers(0.25, 0, 0, 1, 1), rtol=0, atol=1e-15)


def test_quadratic() -> None:
    """With 0 at the margin of 1: 1 - x² for a control x, and 0 beyond."""
    found = tolerance(numbers(0.5, -0.8, 1, -3), margin=1, sigmoid=quadratic, value_at_margin=0)
    torch.testing.assert_close(found, numbers(0.75, 0.36, 0, 0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("sigmoid", [gaussian, linear, quadratic])
def test_what_is_no_number_stays_none(margin: float, sigmoid: Sigmoid) -> None:
    found = tolerance(numbers(math.nan, 0.5), (0, 1), margin=margin, sigmoid=sigmoid)
    assert found.isnan().tolist() == [True, False]


def test_any_shape() -> None:
    x = torch.linspace(-3, 3, 24, dtype=torch.float64)
    assert torch.equal(tolerance(x.view(2, 3, 4), margin=1), tolerance(x, margin=1).view(2, 3, 4))
