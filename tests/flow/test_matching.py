"""CFM loss and probes against closed forms for a Gaussian target N(mu, sigma²).

With s² = t² sigma² + (1 - t)², v - (a - noise) = [t sigma² noise - (1 - t) (a - mu)] / s², so the u-loss of a fixed
action, averaged over noise and uniform t, is π / (4 sigma) · [(a - mu)² + sigma²].
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowrl.contracts.protocols import Velocity
from flowrl.flow import path
from flowrl.flow.matching import LossSettings, Probes, ProbeSettings, cfm_loss, draw_probes, weight
from flowrl.networks.velocity import Parameterisation, to_velocity

torch.set_default_dtype(torch.float32)


class GaussianField:
    """The exact field of the target N(mu, sigma²): v = mu + c(t) (x - t mu), c = (t sigma² - (1 - t)) / s²."""

    def __init__(self, mu: float, sigma: float) -> None:
        self.mu, self.sigma = mu, sigma

    def bind(self, obs: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            s_squared = t**2 * self.sigma**2 + (1 - t) ** 2
            return self.mu + (t * self.sigma**2 - (1 - t)) / s_squared * (x - t * self.mu)

        return velocity


def quadrature(field: GaussianField, action: float, weighting: str, std: float | None = None) -> float:
    """E over noise (21 Gauss-Hermite nodes) and uniform t (midpoint rule, 20,000 nodes) of the loss, by `std` if
    one is given."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    noise = torch.from_numpy(nodes)
    probes = Probes(t.repeat_interleave(21).reshape(1, -1, 1), noise.repeat(20_000).reshape(1, -1, 1))
    reduction = "mean" if std is None else "by_std"
    settings = LossSettings(weighting=weighting, elbo_floor=1e-12, reduction=reduction)  # type: ignore[arg-type]
    actions = torch.full((1, 1), action, dtype=torch.float64)
    inverse = None if std is None else torch.full((1, 1), 1 / std, dtype=torch.float64)
    losses = cfm_loss(field, torch.zeros(1, 1), actions, probes, settings, inverse).reshape(20_000, 21)
    return float((losses @ torch.from_numpy(weights / weights.sum())).mean())


EXACT = [  # (old mu, sigma), (new mu, sigma), action, exact log-ratio, elbo, u, eps, data by Gauss-Legendre
    ((0, 1), (0.3, 0.8), 1.2, 0.3103310513142099, 0.31033105131421, 0.4928373, 0.0667064, 0.2471957),
    ((0.5, 0.3), (0.4, 0.35), 0.1, 0.3673912702861206, 0.36739127028612, 0.1776496, 0.0625422, 0.0453244),
    ((-1, 0.2), (-1, 0.1), -0.7, -2.6818528194400564, -2.68185281944006, -0.2748894, -0.2070558, -0.0070556),
]


@pytest.mark.parametrize(("old", "new", "action", "exact", "elbo", "u", "eps", "data"), EXACT)
def test_the_elbo_weighting_gives_the_exact_likelihood_ratio(
    old: tuple[float, float], new: tuple[float, float], action: float,
    exact: float, elbo: float, u: float, eps: float, data: float,
) -> None:  # fmt: skip
    for weighting, value in {"elbo": elbo, "u": u, "eps": eps, "data": data}.items():
        log_ratio = quadrature(GaussianField(*old), action, weighting) - quadrature(
            GaussianField(*new), action, weighting
        )
        assert log_ratio == pytest.approx(value, abs=1.5e-6 if weighting == "u" else 3e-7), weighting
    assert elbo == pytest.approx(exact, abs=1e-13)


def test_irreducible_loss_of_the_exact_field_is_pi_sigma_over_two() -> None:
    mu, sigma = 0.7, 0.4
    generator = torch.Generator().manual_seed(0)
    actions = (mu + sigma * torch.randn(40_000, 3, generator=generator)).double()
    probes = draw_probes(40_000, 3, ProbeSettings(count=8), generator)
    probes = Probes(probes.times.double(), probes.noise.double())
    for reduction, factor in {"mean": 1, "sum": 3, "sqrt": math.sqrt(3)}.items():
        settings = LossSettings(reduction=reduction)  # type: ignore[arg-type]
        loss = cfm_loss(GaussianField(mu, sigma), torch.zeros(40_000, 1), actions, probes, settings)
        assert loss.mean() == pytest.approx(factor * math.pi * sigma / 2, rel=0.01)


def test_loss_of_a_fixed_action_has_its_closed_form() -> None:
    """L_u(a) = pi / (4 sigma) · [(a - mu)² + sigma²]; mu = .2, sigma = .5, a = .7: pi / 2 · .5 = .785398."""
    assert quadrature(GaussianField(0.2, 0.5), 0.7, "u") == pytest.approx(math.pi / 4, abs=1e-7)


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.05])
def test_by_std_a_change_of_the_mean_has_the_likelihood_ratio_and_one_of_the_spread_half_of_it(sigma: float) -> None:
    """Losses ((a - m)² / (s s_old) + s / s_old) / 2 and -log N = ((a - m) / s)² / 2 + log s, for steps of 0.5 std."""
    old, action = GaussianField(0.2, sigma), 0.2 + 0.7 * sigma
    moved, wider = GaussianField(0.2 + 0.5 * sigma, sigma), GaussianField(0.2, 1.001 * sigma)
    before, of_moved, of_wider = (quadrature(each, action, "u", std=sigma) for each in (old, moved, wider))
    assert before - of_moved == pytest.approx((0.7**2 - 0.2**2) / 2, abs=1e-5)
    exact = (0.7**2 - (0.7 / 1.001) ** 2) / 2 - math.log(1.001)
    assert before - of_wider == pytest.approx(exact / 2, rel=0.01)
    without = quadrature(old, action, "u") - quadrature(moved, action, "u")
    assert without == pytest.approx(math.pi / 2 * sigma * (0.7**2 - 0.2**2) / 2, rel=1e-4)


def test_by_std_adds_the_errors_of_the_numbers_each_in_its_own_unit() -> None:
    generator = torch.Generator().manual_seed(2)
    actions, obs = torch.randn(7, 3, generator=generator), torch.zeros(7, 1)
    probes = draw_probes(7, 3, ProbeSettings(count=2), generator)
    inverse = torch.tensor([[1.0, 4.0, 0.5]]).expand(7, 3)
    found = cfm_loss(GaussianField(0.1, 0.6), obs, actions, probes, LossSettings(reduction="by_std"), inverse)
    alone = [
        cfm_loss(
            GaussianField(0.1, 0.6), obs, actions[:, n : n + 1], Probes(probes.times, probes.noise[..., n : n + 1]),
            LossSettings(),
        )
        for n in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(found, 2 / math.pi * (alone[0] + 4 * alone[1] + 0.5 * alone[2]))


def test_inverse_std_belongs_to_by_std() -> None:
    actions = torch.zeros(2, 1)
    probes = draw_probes(2, 1, ProbeSettings(count=1))
    for settings, given in ((LossSettings(reduction="by_std"), None), (LossSettings(), torch.ones(2, 1))):
        with pytest.raises(ValueError, match="inverse_std belongs to reduction by_std"):
            cfm_loss(GaussianField(0, 1), actions, actions, probes, settings, given)


def test_eps_and_data_errors_are_weighted_velocity_errors() -> None:
    """eps_hat = x - t v and data_hat = x + (1 - t) v: |eps_hat - eps|² = t² |v - u|², pointwise, from 0.02 to 0.98."""
    generator = torch.Generator().manual_seed(1)
    noise, action, v = (torch.randn(64, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    t = 0.02 + 0.96 * torch.rand(64, 1, generator=generator, dtype=torch.float64)
    x = path.interpolate(noise, action, t)
    squared_error = (v - path.target_velocity(noise, action)).square()
    eps_error = (x - t * v - noise).square()
    data_error = (x + (1 - t) * v - action).square()
    assert torch.allclose(eps_error, weight(t, LossSettings(weighting="eps")) * squared_error, atol=1e-12)
    assert torch.allclose(data_error, weight(t, LossSettings(weighting="data")) * squared_error, atol=1e-12)


@pytest.mark.parametrize(("parameterisation", "at"), [("eps", 0.0), ("eps", 0.013), ("data", 0.987), ("data", 1.0)])
def test_at_the_end_of_time_the_loss_is_the_error_of_the_networks_output(
    parameterisation: Parameterisation, at: float
) -> None:
    """There t, or 1 - t, counts as 0.02: the output is to be the point x_t ± 0.02 u, and w |v - u|² its squared error.

    With the weight (1 - t)² of the action's error, and the divisor 0.02 in the velocity, no error would count at t = 1.
    """
    generator = torch.Generator().manual_seed(4)
    noise, action, output = (torch.randn(64, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    t = torch.full((64, 1), at, dtype=torch.float64)
    x, u = path.interpolate(noise, action, t), path.target_velocity(noise, action)
    predicted, target = (output, x + 0.02 * u) if parameterisation == "data" else (x + output, x - 0.02 * u)
    squares = (to_velocity(output, x, t, parameterisation) - u).square()
    loss = weight(t, LossSettings(weighting=parameterisation)) * squares  # type: ignore[arg-type]
    torch.testing.assert_close(loss, (predicted - target).square(), rtol=1e-10, atol=1e-12)


def test_weights_by_hand() -> None:
    t = torch.tensor([0.0, 0.01, 0.5, 0.99, 1.0], dtype=torch.float64)
    expected = {
        "u": [1, 1, 1, 1, 1],
        "eps": [0.0004, 0.0004, 0.25, 0.9801, 1],
        "data": [1, 0.9801, 0.25, 0.0004, 0.0004],
    }
    for weighting, values in expected.items():
        assert weight(t, LossSettings(weighting=weighting)).tolist() == pytest.approx(values, abs=1e-12)  # type: ignore[arg-type]


def test_the_path_runs_from_noise_to_action() -> None:
    noise, action = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 3.0]])
    assert torch.equal(path.interpolate(noise, action, 0.0), noise)
    assert torch.equal(path.interpolate(noise, action, 1.0), action)
    assert torch.equal(path.interpolate(noise, action, 0.25), torch.tensor([[1.625, 0.0]]))


def test_the_elbo_weight_is_bounded_at_the_action() -> None:
    t = torch.tensor([0.0, 0.5, 0.9, 1.0])
    assert weight(t, LossSettings(weighting="elbo", elbo_floor=0.01)).tolist() == pytest.approx([0, 1, 9, 100])


def test_laws_of_the_times() -> None:
    generator = torch.Generator().manual_seed(2)
    uniform = draw_probes(20_000, 1, ProbeSettings(count=4), generator).times
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.var() == pytest.approx(1 / 12, abs=0.002)
    grid = draw_probes(2_000, 1, ProbeSettings(law="grid", grid=10), generator).times
    assert sorted(set(grid.flatten().tolist())) == pytest.approx([k / 10 for k in range(10)])
    lognormal = draw_probes(20_000, 1, ProbeSettings(law="lognormal"), generator).times
    assert lognormal.median() == pytest.approx(1 / (1 + math.exp(-1.2)), abs=0.01)  # 0.7685
    stratified = draw_probes(500, 1, ProbeSettings(law="stratified", count=5), generator).times
    assert torch.equal((stratified.squeeze(-1) * 5).floor(), torch.arange(5.0).expand(500, 5))


def test_probes_of_a_seed_are_the_same_whatever_the_chunking() -> None:
    draws = [draw_probes(10, 2, ProbeSettings(), torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(draws[0].noise, draws[1].noise)
    rows = torch.tensor([3, 1])
    assert torch.equal(draws[0][rows].times, draws[1].times[rows])
