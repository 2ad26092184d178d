"""Intervals and episodes by hand that the other tests of evaluation do not reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed
from flowrl.contracts.protocols import Step
from flowrl.evaluation.episodes import evaluate
from flowrl.evaluation.statistics import bootstrap, wilson


def test_an_interval_of_95_percent_leaves_a_fortieth_on_each_side() -> None:
    """The bootstrap means of 0 … 399 are near N(199.5, 115.5² / 400): ± 1.96 · 5.77 = ± 11.3; with 1.64 ± 9.5."""
    low, high = bootstrap(np.arange(400.0))
    assert (low, high) == pytest.approx((199.5 - 11.32, 199.5 + 11.32), abs=0.4)
    low, high = bootstrap(np.arange(400.0), level=0.5)
    assert (low, high) == pytest.approx((199.5 - 3.89, 199.5 + 3.89), abs=0.4)


def test_wilsons_interval_is_not_centred_on_the_rate() -> None:
    """9 of 10, z = 1.96: (0.9 + 0.19207) / 1.38415 = 0.78898 ± 1.96 √(0.009 + 0.009604) / 1.38415 = 0.19314."""
    assert wilson(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-4)


class Corridor:
    """One environment whose observation is its step; an episode ends after the action 3."""

    count, variants = 1, ()

    def reset(self, seed: int | None) -> Tensor:
        self.time = 0
        return torch.zeros(1, 1)

    def step(self, action: Tensor) -> Step:
        self.time += 1
        ended = action[:, 0] >= 3
        nothing = torch.zeros(1, dtype=torch.bool)
        obs = torch.full((1, 1), float(self.time))
        return Step(obs, action[:, 0], ended, nothing, obs, torch.full((1,), math.nan))


def test_every_action_is_for_the_observation_of_its_step() -> None:
    evaluation = evaluate(lambda obs: obs, Corridor(), episodes=1, seed=0, longest=10)  # type: ignore[arg-type]
    assert evaluation.lengths.tolist() == [4] and evaluation.returns.tolist() == [0 + 1 + 2 + 3]


def test_an_episode_may_be_as_long_as_one_step_less_than_endless() -> None:
    with pytest.raises(EnvironmentFailed, match="still running after 4 steps"):
        evaluate(lambda obs: obs * 0, Corridor(), episodes=1, seed=0, longest=4)  # type: ignore[arg-type]
    corridor = Corridor()
    with pytest.raises(EnvironmentFailed):
        evaluate(lambda obs: obs * 0, corridor, episodes=1, seed=0, longest=4)  # type: ignore[arg-type]
    assert corridor.time == 4
