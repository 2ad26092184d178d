"""The adaptive sampler: tolerance in every row, budget of evaluations, times within the interval."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from flowrl_samplers.dopri5 import Dopri5
from flowrl_samplers.errors import BudgetExceeded, IntegrationFailed

RATE = 20.0


def swinging(x: Tensor, t: float) -> Tensor:
    """x' = 10 x cos(20 t), hence x(t) = x(0) exp(sin(20 t) / 2)."""
    return 10 * math.cos(RATE * t) * x


def swung(x: Tensor) -> Tensor:
    return x * math.exp(math.sin(RATE) / 2)


def hard_row_first(x: Tensor, t: float) -> Tensor:
    """Move row 0 by `swinging`; the velocity of the others is zero."""
    v = torch.zeros_like(x)
    v[0] = swinging(x[0], t)
    return v


def points(rows: int) -> Tensor:
    return torch.linspace(0.5, 1.5, rows * 3, dtype=torch.float64).reshape(rows, 3)


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-8])
def test_error_follows_the_tolerance_in_both_directions(rtol: float) -> None:
    x, sampler = points(4), Dopri5(rtol=rtol, atol=rtol / 10)
    there = sampler(swinging, x, 0.0, 1.0)
    bound = 40 * rtol  # some 15 steps, each with an error of rtol |x| that grows by up to e on its way
    assert (there - swung(x)).abs().max() < bound
    assert (sampler(swinging, swung(x), 1.0, 0.0) - x).abs().max() < bound


def test_a_hard_row_gets_its_tolerance_among_hundreds_of_easy_ones() -> None:
    """Rows with zero velocity have no error, so the hard row takes the same steps as alone: equal bits.

    torchdiffeq's own norm, a mean over the whole batch, dilutes the hard row's error by sqrt(256) = 16.
    """
    x, sampler = points(256), Dopri5(rtol=1e-5, atol=1e-6)
    together = sampler(hard_row_first, x, 0.0, 1.0)
    assert torch.equal(together[:1], sampler(hard_row_first, x[:1], 0.0, 1.0))

    diluted = odeint(
        lambda t, y: hard_row_first(y, t.item()),
        x,
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        rtol=1e-5,
        atol=1e-6,
        method="dopri5",
    )[-1]
    error = (together[0] - swung(x[0])).abs().max()
    assert error < 1e-4 < (diluted[0] - swung(x[0])).abs().max()
    assert torch.equal(together[1:], x[1:])


def test_every_row_keeps_its_tolerance_in_a_batch() -> None:
    """Rows x' = k x cos(20 t) of hardness k = 0 .. 15: in a batch each is within its bound."""
    k = torch.arange(16, dtype=torch.float64)[:, None]
    x = torch.ones(16, 2, dtype=torch.float64)
    exact = (k * math.sin(RATE) / RATE).exp()
    end = Dopri5(rtol=1e-6, atol=1e-7)(lambda x, t: k * math.cos(RATE * t) * x, x, 0.0, 1.0)
    assert ((end - exact).abs() / exact).max() < 20e-6


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.2, 0.7), (-3.0, 5.0)])
@pytest.mark.parametrize("speed", [1.0, 1e-4])  # torchdiffeq's own first step is large at small velocities
def test_only_times_in_the_interval_are_evaluated(times: tuple[float, float], speed: float) -> None:
    times_seen: list[float] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        assert type(t) is float
        times_seen.append(t)
        return speed * x

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torchdiffeq only warns of an option that it does not know
        end = Dopri5()(velocity, points(2), *times)
    assert min(times) <= min(times_seen) and max(times_seen) <= max(times)
    assert times_seen[0] == times[0]
    torch.testing.assert_close(end, points(2) * math.exp(speed * (times[1] - times[0])), rtol=1e-4, atol=0)


def test_the_budget_is_kept_and_its_exhaustion_is_reported() -> None:
    evaluations = 0

    def velocity(x: Tensor, t: float) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return swinging(x, t)

    with pytest.raises(BudgetExceeded, match=r"max_nfe = 40 .* near t = 0\.\d+, .* raise max_nfe, or loosen rtol"):
        Dopri5(max_nfe=40)(velocity, points(2), 0.0, 1.0)
    assert evaluations == 40
    evaluations = 0
    Dopri5()(velocity, points(2), 0.0, 1.0)
    needed, evaluations = evaluations, 0
    Dopri5(max_nfe=needed)(velocity, points(2), 0.0, 1.0)
    assert evaluations == needed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_velocity_that_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(IntegrationFailed, match="is the velocity finite there"):
        Dopri5()(lambda x, t: torch.full_like(x, value), points(2), 0.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    end = Dopri5()(swinging, points(3).to(dtype), 0.0, 1.0)
    assert end.dtype == dtype
    torch.testing.assert_close(end.double(), swung(points(3)), rtol=1e-4, atol=0)


def test_gradients_flow_through() -> None:
    x = points(2).requires_grad_()
    (gradient,) = torch.autograd.grad(Dopri5()(swinging, x, 0.0, 1.0).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, swung(torch.ones(1)).item()), rtol=1e-4, atol=0)


def test_an_empty_interval_gives_a_copy() -> None:
    x = points(2)
    same = Dopri5()(swinging, x, 0.4, 0.4)
    assert torch.equal(same, x)
    assert same.data_ptr() != x.data_ptr()
    assert Dopri5()(swinging, torch.empty(0, 3), 0.0, 1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rtol": 0.0}, ValueError),
        ({"atol": math.nan}, ValueError),
        ({"rtol": "1e-3"}, TypeError),
        ({"max_nfe": 0}, ValueError),
        ({"max_nfe": 10.5}, TypeError),
        ({"max_nfe": True}, TypeError),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Dopri5(**options)  # type: ignore[arg-type]
