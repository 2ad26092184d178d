"""Sums over shards: one tree, whichever process holds them, and statistics that are those of all rows."""

from __future__ import annotations

import pytest
import torch

from flowrl.training.advantage import explained_variance, normalise
from flowrl.training.metrics import Means, over_all
from flowrl.training.rollout import Episodes, report
from flowrl.training.shards import ALONE, Shards


def parts(count: int) -> list[torch.Tensor]:
    """Numbers of such different sizes that the order of a sum shows."""
    generator = torch.Generator().manual_seed(3)
    return list(torch.randn(count, 50, generator=generator) * 10 ** torch.randn(count, 50, generator=generator))


def test_the_shards_of_a_process_are_consecutive() -> None:
    assert [list(Shards(8).own), list(ALONE.own)] == [list(range(8)), [0]]


def test_the_sum_is_that_of_a_binary_tree() -> None:
    a, b, c, d = parts(4)
    assert torch.equal(Shards(4).total([a, b, c, d]), (a + b) + (c + d))
    assert not torch.equal((a + b) + (c + d), ((a + b) + c) + d)  # so that another order would be seen


def test_a_half_of_the_shards_sums_to_a_node_of_the_tree() -> None:
    """What a second process would add to its own half gives the bits of one process."""
    eight = parts(8)
    halves = [Shards(4).total(eight[:4]), Shards(4).total(eight[4:])]
    assert torch.equal(Shards(8).total(eight), halves[1] + halves[0])


def test_moments_are_those_of_all_rows() -> None:
    rows = torch.arange(24.0).reshape(8, 3)
    number, mean, squares = Shards(2).moments([rows[:4], rows[4:]])
    assert number == 8
    assert mean.tolist() == rows.mean(dim=0).tolist()
    assert squares.tolist() == (rows.double() - mean).square().sum(dim=0).tolist()


def test_advantages_are_normalised_over_all_shards() -> None:
    """1, 3 | 5, 7: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5."""
    one, other = normalise([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0])], Shards(2))
    assert torch.cat([one, other]).tolist() == pytest.approx([x / 5**0.5 for x in (-3, -1, 1, 3)])


def test_the_explained_variance_is_that_of_all_shards() -> None:
    """Returns 0, 2 | 4, 6 of variance 5; the critic is wrong by 1, -1 | 1, -1, of variance 1."""
    returns = [torch.tensor([0.0, 2.0]), torch.tensor([4.0, 6.0])]
    values = [torch.tensor([-1.0, 3.0]), torch.tensor([3.0, 7.0])]
    assert explained_variance(values, returns, Shards(2)) == pytest.approx(1 - 1 / 5)


def test_metrics_are_means_and_extremes_over_all_shards() -> None:
    two = [Means(), Means()]
    for means, loss, ratio in zip(two, (1.0, 3.0), (0.5, 1.5), strict=True):
        for name, rows in (("loss", 4), ("ratio_min", 4), ("ratio_max", 4)):
            means.add({name: torch.tensor(loss if name == "loss" else ratio)}, rows)
    assert over_all(two, Shards(2)) == {"loss": 2.0, "ratio_min": 0.5, "ratio_max": 1.5}


def test_episodes_of_all_shards_are_reported_together() -> None:
    nan, yes = float("nan"), torch.tensor([True])
    both = [Episodes.starting(1), Episodes.starting(1)]
    both[0].add(torch.tensor([1.0]), yes, torch.tensor([1.0]))
    for reward in (2.0, 6.0):
        both[1].add(torch.tensor([reward]), yes, torch.tensor([nan]))
    expected = {"episodes": 3, "return_mean": 3.0, "length_mean": 1.0, "success_rate": 1.0}
    assert report(both, Shards(2)) == expected
