"""Statistics of the episodes that ended."""

from __future__ import annotations

import math

import torch

from flowrl.training.rollout import Episodes

NAN = math.nan


def test_means_over_the_episodes_that_ended_since_the_last_report() -> None:
    episodes = Episodes.starting(3)
    episodes.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([False, True, False]), torch.tensor([NAN, 1.0, NAN]))
    episodes.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]), torch.tensor([0.0, NAN, NAN]))
    assert episodes.report() == {"return_mean": (2 + 2 + 6) / 3, "length_mean": 5 / 3, "success_rate": 0.5}
    assert episodes.ended == 3
    assert episodes.report() == {}
    assert episodes.returns.tolist() == [0, 2, 0] and episodes.lengths.tolist() == [0, 1, 0]


def test_a_part_of_an_episode_is_not_counted() -> None:
    """A staggered first episode began in the middle; the one after it is complete."""
    episodes = Episodes.starting(2)
    episodes.counted = torch.tensor([True, False])
    both = torch.tensor([True, True])
    episodes.add(torch.tensor([10.0, 1.0]), both, torch.tensor([1.0, 0.0]))
    assert episodes.report() == {"return_mean": 10, "length_mean": 1, "success_rate": 1}
    episodes.add(torch.tensor([10.0, 20.0]), both, torch.tensor([NAN, NAN]))
    assert episodes.report() == {"return_mean": 15, "length_mean": 1}
    assert episodes.ended == 3
