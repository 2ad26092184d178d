"""Counting evaluations: the count is right, and nothing else changes."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.flow.nfe import CountingVelocity


def velocity(x: Tensor, t: float | Tensor) -> Tensor:
    return t * x


def test_counting_changes_nothing() -> None:
    counting = CountingVelocity(velocity)
    x = torch.randn(3, 2)
    assert counting.nfe == 0
    for number, t in enumerate((0.25, 0.5, 0.5), start=1):
        assert torch.equal(counting(x, t), velocity(x, t))
        assert counting.nfe == number
