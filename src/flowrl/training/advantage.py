"""Advantages: generalised advantage estimation and normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

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


def normalise(advantages: Tensor, least: float | Tensor = 0.0) -> Tensor:
    """Return the advantages, shifted to mean 0 over all their elements and divided by their standard deviation, or
    by `least` where that is larger."""
    return (advantages - advantages.mean()) / (advantages.std(correction=0).clamp(min=least) + 1e-8)


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Compute 1 - Var(returns - values) / Var(returns), a scalar: 1 for a perfect critic, 0 for a constant one, NaN
    where the returns are all the same."""
    variance = returns.var(correction=0)
    return torch.where(variance > 0, 1 - (returns - values).var(correction=0) / variance, torch.nan)


class AdvantageScale:
    """Normalises the advantages of successive updates, dividing by no less than `floor` · `largest`.

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

    def __call__(self, advantages: Tensor) -> Tensor:
        """Return the advantages with mean 0 and standard deviation 1, or less where the lower bound is in force."""
        present = advantages.std(correction=0).double()
        self._largest = torch.maximum(FADING * self._largest.to(present.device), present)
        return normalise(advantages, least=(self.floor * self._largest).to(advantages.dtype))
