"""The Gaussian actor: its density by hand, and what may move of its spread."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from flowrl.networks.gaussian import GaussianActor, GaussianSettings, entropy, log_probability


def test_density_and_entropy_by_hand() -> None:
    """At one standard deviation in one of two dimensions: -1/2 - ln(2π) - ln(2 · 0.5)."""
    mean, std = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 0.5]])
    action = torch.tensor([[3.0, -1.0]])
    assert log_probability(action, mean, std).item() == pytest.approx(-0.5 - math.log(2 * math.pi))
    assert entropy(std).item() == pytest.approx(1 + math.log(2 * math.pi))


@pytest.mark.parametrize("initial_std", [0.002, 0.3, 2.0, 1000.0])
def test_the_first_spread_is_exactly_initial_std(initial_std: float) -> None:
    actor = GaussianActor(3, 2, GaussianSettings(initial_std=initial_std))
    with torch.no_grad():
        spread = actor(torch.randn(4, 3))[1]
    torch.testing.assert_close(spread, torch.full((4, 2), initial_std), rtol=1e-5, atol=1e-6)


def test_no_training_takes_the_spread_below_smallest_std() -> None:
    """std = softplus(spread) + smallest_std; the first one is initial_std all the same."""
    actor = GaussianActor(3, 2, GaussianSettings(initial_std=0.5, smallest_std=0.3))
    with torch.no_grad():
        torch.testing.assert_close(actor(torch.randn(4, 3))[1], torch.full((4, 2), 0.5), rtol=1e-6, atol=0)
        actor.spread.fill_(-50.0)
        torch.testing.assert_close(actor(torch.randn(4, 3))[1], torch.full((4, 2), 0.3), rtol=1e-6, atol=0)


def test_a_smallest_std_without_effect_or_above_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match=r"smallest_std is of std: state_independent, and std is fixed"):
        GaussianSettings(std="fixed", smallest_std=0.3)
    with pytest.raises(ValueError, match=r"initial_std 0.2 has to be above smallest_std 0.3"):
        GaussianSettings(initial_std=0.2, smallest_std=0.3)


@pytest.mark.parametrize("std", ["state_independent", "state_dependent"])
def test_the_spread_stays_above_a_thousandth(std: Literal["state_independent", "state_dependent"]) -> None:
    """std = softplus(spread) + 0.001, however small the softplus has become."""
    actor = GaussianActor(3, 2, GaussianSettings(std=std))
    with torch.no_grad():
        actor.spread.fill_(-50.0)
        _, spread = actor(torch.zeros(4, 3))
    torch.testing.assert_close(spread, torch.full((4, 2), 1e-3), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("std", "free", "same"),
    [("state_independent", True, True), ("state_dependent", True, False), ("fixed", False, True)],
)
def test_the_spread_that_is_asked_for(
    std: Literal["state_independent", "state_dependent", "fixed"], free: bool, same: bool
) -> None:
    """`free`: it learns; `same`: in every state. All begin at `initial_std`, up to what the network adds."""
    torch.manual_seed(0)
    actor = GaussianActor(3, 2, GaussianSettings(std=std, initial_std=0.1))
    optimizer = torch.optim.AdamW(actor.parameters(), lr=0.1, weight_decay=0.1)
    obs = torch.randn(50, 3)
    mean, spread = actor(obs)
    torch.testing.assert_close(spread, torch.full((50, 2), 0.1), atol=0.005, rtol=0)
    assert bool((spread == spread[0]).all()) is same
    (-log_probability(torch.zeros(50, 2), mean, spread).mean()).backward()
    optimizer.step()
    assert bool((actor(obs)[1] != spread).any()) is free
