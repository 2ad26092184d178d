"""GAE by hand, without episode ends and at the two kinds of them."""

from __future__ import annotations

import pytest
import torch

from flowrl.training.advantage import AdvantageScale, gae, normalise

REWARDS = torch.tensor([[1.0], [2.0], [3.0]])
VALUES = torch.tensor([[0.5], [0.4], [0.3]])
NO = torch.zeros(3, 1, dtype=torch.bool)
AT_1 = torch.tensor([[False], [True], [False]])


def advantages(next_values: list[float], terminated: torch.Tensor, truncated: torch.Tensor) -> list[float]:
    following = torch.tensor(next_values).unsqueeze(1)
    return gae(REWARDS, VALUES, following, terminated, truncated, 0.9, 0.8).squeeze(1).tolist()


def test_without_ends() -> None:
    assert advantages([0.4, 0.3, 0.2], NO, NO) == pytest.approx([3.699392, 3.9436, 2.88])


def test_a_termination_has_no_value_after_it() -> None:
    """A_1 = 2 - .4 = 1.6; A_0 = 1 + .9 · .4 - .5 + .72 · 1.6 = 2.012; A_2 as without ends."""
    assert advantages([0.4, 7.0, 0.2], AT_1, NO) == pytest.approx([2.012, 1.6, 2.88])


def test_a_truncation_keeps_the_value_of_the_true_successor() -> None:
    """A_1 = 2 + .9 · 7 - .4 = 7.9; A_0 = .86 + .72 · 7.9 = 6.548."""
    assert advantages([0.4, 7.0, 0.2], NO, AT_1) == pytest.approx([6.548, 7.9, 2.88])


def test_both_flags_are_a_termination() -> None:
    assert advantages([0.4, 7.0, 0.2], AT_1, AT_1) == advantages([0.4, 7.0, 0.2], AT_1, NO)


def test_normalised_advantages() -> None:
    (scaled,) = normalise([torch.tensor([1.0, 2.0, 3.0])])
    assert scaled.tolist() == pytest.approx([-1.224745, 0, 1.224745], abs=1e-5)
    assert torch.equal(normalise([torch.ones(4)])[0], torch.zeros(4))


def scaled(advantages: torch.Tensor, scale: AdvantageScale) -> torch.Tensor:
    """The advantages of the only shard, normalised with the lower bound of `scale`."""
    return normalise([advantages], scale=scale)[0]


def test_small_advantages_stay_small_beside_larger_ones_before() -> None:
    """Deviation 10, then 0.5 under a floor of 0.1 · 9.99 = 0.999: scaled by that, to 0.5 / 0.999."""
    scale = AdvantageScale(floor=0.1)
    large = torch.tensor([-10.0, 10.0])
    assert torch.equal(scaled(large, scale), normalise([large])[0])
    assert scaled(torch.tensor([2.5, 3.5]), scale).tolist() == pytest.approx([-0.5 / 0.999, 0.5 / 0.999])
    two = torch.tensor([-2.0, 2.0])
    assert torch.equal(scaled(two, scale), normalise([two])[0])
    assert scale.largest == pytest.approx(10 * 0.999**2)


def test_without_a_floor_every_batch_is_normalised() -> None:
    scale = AdvantageScale(floor=0.0)
    scaled(torch.tensor([-10.0, 10.0]), scale)
    assert scaled(torch.tensor([2.5, 3.5]), scale).tolist() == pytest.approx([-1, 1])
    assert scaled(torch.zeros(4), scale).tolist() == [0, 0, 0, 0]
