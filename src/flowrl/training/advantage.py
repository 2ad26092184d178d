"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages A_t = δ_t + γ λ A_{t+1} with δ_t = r_t + γ V(s_{t+1}) - V(s_t).

    All tensors are (time, envs). `next_values` are the values of the true successors. A termination has
    no value after it; a truncation keeps V(s_{t+1}), since only the clock ended the episode. Both cut the
    sum; where both flags stand, the step is a termination.
    """
    delta = rewards + gamma * next_values * (~terminated) - values
    carry = gamma * gae_lambda * (~(terminated | truncated))
    advantages = torch.empty_like(delta)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + carry[t] * following
        advantages[t] = following
    return advantages


def normalise(advantages: Tensor, least: float = 0.0) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over all their elements; where theirs is below `least`, divided
    by that."""
    return (advantages - advantages.mean()) / (advantages.std(correction=0).clamp(min=least) + 1e-8)


class AdvantageScale:
    """Normalises the advantages of one update after another, by no less than `floor` times the `largest` standard
    deviation seen, which fades by a thousandth per update."""

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.largest = 0.0

    def __call__(self, advantages: Tensor) -> Tensor:
        """Advantages with mean 0 and, unless they are that small, standard deviation 1."""
        self.largest = max(0.999 * self.largest, advantages.std(correction=0).item())
        return normalise(advantages, least=self.floor * self.largest)
