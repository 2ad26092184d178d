"""Ratio and surrogate identities, with the arithmetic beside the numbers."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from flowrl.training import ratio, surrogate

CLIP = 0.2
ALL = [surrogate.ppo_clip, surrogate.spo, surrogate.aspo, surrogate.mirror]


def test_every_surrogate_has_a_row() -> None:
    names, _ = get_args(surrogate.Surrogate)
    assert get_args(names) == tuple(surrogate.SURROGATES)
    assert list(surrogate.SURROGATES.values()) == ALL


def slope(function: object, log_ratio: float, advantage: float) -> float:
    """d surrogate / d log-ratio."""
    x = torch.tensor([[log_ratio]], dtype=torch.float64, requires_grad=True)
    function(x, torch.tensor([[advantage]], dtype=torch.float64), CLIP).sum().backward()  # type: ignore[operator]
    assert x.grad is not None
    return float(x.grad)


def test_averaged_and_per_probe_by_hand() -> None:
    old, new = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, 2.5, 1.5]])
    assert torch.equal(ratio.averaged(old, new), torch.tensor([[0.5]]))  # (.5 - .5 + 1.5) / 3
    assert torch.equal(ratio.per_probe(old, new), torch.tensor([[0.5, -0.5, 1.5]]))
    assert ratio.likelihood(torch.tensor([-1.0]), torch.tensor([-0.25])).tolist() == [[0.75]]


@pytest.mark.parametrize("function", ALL)
def test_at_the_old_policy_the_value_is_a_and_the_slope_too(function: object) -> None:
    for advantage in (2.0, -3.0):
        value = function(torch.zeros(1, 4), torch.tensor([[advantage]]), CLIP)  # type: ignore[operator]
        assert torch.equal(value, torch.full((1, 4), advantage))
        assert slope(function, 0.0, advantage) == advantage


def test_ppo_clip_stops_pushing_outside_the_range_and_only_there() -> None:
    assert slope(surrogate.ppo_clip, math.log(1.3), 1.0) == 0
    assert slope(surrogate.ppo_clip, math.log(0.7), -1.0) == 0
    assert slope(surrogate.ppo_clip, math.log(1.3), -1.0) == pytest.approx(-1.3)
    assert slope(surrogate.ppo_clip, math.log(0.7), 1.0) == pytest.approx(0.7)


@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_spo_is_greatest_at_one_plus_sign_times_clip(advantage: float) -> None:
    best = 1 + math.copysign(CLIP, advantage)
    assert slope(surrogate.spo, math.log(best), advantage) == pytest.approx(0, abs=1e-12)
    assert (
        slope(surrogate.spo, math.log(best) - 0.01, advantage)
        > 0
        > slope(surrogate.spo, math.log(best) + 0.01, advantage)
    )


def test_aspo_pulls_a_fallen_ratio_back() -> None:
    """Below 1 - clip with A < 0: d / d rho = |A| ((1 - rho) / clip - 1); rho = .5: 2 · (2.5 - 1) = 3."""
    assert slope(surrogate.aspo, math.log(0.5), -2.0) == pytest.approx(3 * 0.5)
    assert slope(surrogate.aspo, math.log(1.5), 2.0) == slope(surrogate.ppo_clip, math.log(1.5), 2.0) == 0


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("log_ratio", [100.0, -100.0, 88.8])
def test_gradients_stay_finite_at_huge_log_ratios(function: object, advantage: float, log_ratio: float) -> None:
    x = torch.tensor([[log_ratio]], requires_grad=True)
    value = function(ratio.bounded(x, 10.0), torch.tensor([[advantage]]), CLIP)  # type: ignore[operator]
    value.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(value).all()
    assert torch.isfinite(x.grad).all()
    if log_ratio > 0 > advantage:
        assert x.grad < 0  # a ratio that rose on a bad action is pulled down, also beyond the bound


def test_without_the_bound_the_gradient_is_nan() -> None:
    """What the bound is for: 0 · inf, although min() chose the clipped branch."""
    x = torch.tensor([[100.0]], requires_grad=True)
    surrogate.ppo_clip(x, torch.tensor([[1.0]]), CLIP).sum().backward()
    assert x.grad is not None
    assert x.grad.isnan().all()


def test_the_bound_is_exact_inside_and_passes_gradients() -> None:
    x = torch.tensor([-12.0, -0.3, 7.0, 12.0], requires_grad=True)
    bounded = ratio.bounded(x, 10.0)
    assert bounded.tolist() == pytest.approx([-10, -0.3, 7, 10])
    assert torch.equal(bounded[1:3], x[1:3])
    bounded.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(4))


def test_metrics_of_the_ratio_by_hand() -> None:
    """Two of four raw log-ratios are beyond ±10; ratios 0.7, 0.95, 1.1 and 1.3 leave 1 ± 0.2 in two."""
    raw = torch.tensor([-12.0, -0.3, 7.0, 12.0])
    assert ratio.ratio_metrics(raw, ratio.bounded(raw, 10.0), 0.2, 10.0)["bound_share"] == 0.5
    log_ratio = torch.tensor([0.7, 0.95, 1.1, 1.3]).log()
    found = {name: float(value) for name, value in ratio.ratio_metrics(log_ratio, log_ratio, 0.2, 10.0).items()}
    expected = {"ratio_mean": 1.0125, "ratio_min": 0.7, "ratio_max": 1.3, "clipped_share": 0.5, "bound_share": 0.0}
    expected["log_ratio_std"] = 0.2275603  # of -0.356675, -0.051293, 0.095310 and 0.262364 about their mean
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("probes", "expected"), [(1, 1.0833), (2, 1.0408), (4, 1.0202), (8, 1.0101), (16, 1.0050)])
def test_the_averaged_ratio_is_biased_upwards_by_jensens_inequality(probes: int, expected: float) -> None:
    """E r = exp(v / 2n) for log-ratio noise of variance v = .16 per probe."""
    noise = 0.4 * torch.randn(400_000, probes, generator=torch.Generator().manual_seed(0))
    mean = ratio.averaged(noise, torch.zeros_like(noise)).exp().mean()
    assert mean == pytest.approx(expected, abs=0.004)
    assert expected == pytest.approx(math.exp(0.16 / (2 * probes)), abs=1e-4)


@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_mirror_is_greatest_at_clip_times_the_advantage_and_pulls_ever_harder(advantage: float) -> None:
    """d / d log r = A - log r / clip: at log r = -5 and A = -0.5 that is -0.5 + 25, while ASPO's has faded."""
    assert slope(surrogate.mirror, CLIP * advantage, advantage) == pytest.approx(0, abs=1e-12)
    assert slope(surrogate.mirror, -5.0, advantage) == pytest.approx(advantage + 5 / CLIP)
    assert 0 < slope(surrogate.aspo, -5.0, -0.5) < 0.02 * slope(surrogate.mirror, -5.0, -0.5)
