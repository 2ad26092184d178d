"""Advantages: generalised advantage estimation and normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowrl.training.shards import ALONE, Shards

FADING = 0.999  # per update, of the largest standard deviation that `AdvantageScale` remembers


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Compute advantages A_t = δ_t + γ λ A_{t+1} with δ_t = r_t + γ V(s_{t+1}) - V(s_t) (generalised advantage
    estimation, Schulman et al. 2016, arXiv 1506.02438, eq. 11, 12 and 16).

    All tensors are (time, envs). `next_values` are the values of the true successors. A termination has
    no value after it; a truncation keeps V(s_{t+1}), since only the clock ended the episode. Both cut the
    sum; a step with both flags is a termination.
    """
    delta = rewards + gamma * next_values * (~terminated) - values
    carry = gamma * gae_lambda * (~(terminated | truncated))
    advantages = torch.empty_like(delta)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + carry[t] * following
        advantages[t] = following
    return advantages


def normalise(parts: Sequence[Tensor], shards: Shards = ALONE, scale: AdvantageScale | None = None) -> list[Tensor]:
    """Return the advantages of the own shards, shifted to mean 0 over all elements of all shards and divided by their
    standard deviation, or by the lower bound of `scale` where that is larger."""
    mean, std = shards.mean_and_std(parts)
    divisor = std if scale is None else std.clamp(min=scale.least(std))
    return [(part - mean) / (divisor + 1e-8) for part in parts]


def explained_variance(values: Sequence[Tensor], returns: Sequence[Tensor], shards: Shards = ALONE) -> Tensor:
    """Compute 1 - Var(returns - values) / Var(returns) over all shards, a scalar: 1 for a perfect critic, 0 for a
    constant one, NaN where the returns are all the same."""
    variance = shards.variance(returns)
    unexplained = shards.variance([target - value for target, value in zip(returns, values, strict=True)])
    return torch.where(variance > 0, 1 - unexplained / variance, torch.nan)


class AdvantageScale:
    """The lower bound `floor` · `largest` on what the advantages of successive updates are divided by.

    `largest` is the largest standard deviation so far, multiplied by 0.999 per update. A lower bound on the divisor
    keeps noise from being amplified where little is left to learn, as max(1, S) does in DreamerV3's normalisation of
    returns (Hafner et al. 2023, arXiv 2301.04104, section on the actor-critic); that the bound follows the run's own
    scale, instead of being 1, is flowrl's.
    """

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self._largest = torch.zeros((), dtype=torch.float64)  # a tensor, which is not read: a GPU would be waited for

    @property
    def largest(self) -> float:
        """The largest standard deviation so far, faded."""
        return self._largest.item()

    @largest.setter
    def largest(self, value: float) -> None:
        self._largest = torch.tensor(value, dtype=torch.float64)

    def least(self, std: Tensor) -> Tensor:
        """Add the standard deviation of an update's advantages, a scalar, and return the lower bound for them."""
        present = std.double()
        self._largest = torch.maximum(FADING * self._largest.to(present.device), present)
        return (self.floor * self._largest).to(std.dtype)
