"""Surrogate objectives, to be maximised: log-ratio (batch, n), advantage (batch, 1), clip → (batch, n)."""

from __future__ import annotations

import torch
from torch import Tensor


def ppo_clip(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(r A, clamp(r, 1 - ε, 1 + ε) A) with r = exp(log-ratio) (Schulman et al. 2017, eq. 7)."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def spo(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """r A - |A| / (2 ε) · (r - 1)²: greatest at r = 1 + sign(A) ε (Simple Policy Optimization,
    arXiv 2401.16025)."""
    ratio = log_ratio.exp()
    return ratio * advantage - advantage.abs() / (2 * clip) * (ratio - 1).square()


def aspo(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO-clip where A ≥ 0, SPO where A < 0, which pulls a ratio that fell below 1 - ε back up (FPO++,
    arXiv 2602.02481)."""
    return torch.where(advantage >= 0, ppo_clip(log_ratio, advantage, clip), spo(log_ratio, advantage, clip))


def mirror(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """A (1 + log r) - (log r)² / (2 ε): greatest at log r = ε A, a step of mirror descent, π_new ∝ π_old exp(ε A)
    (Mirror Descent Policy Optimization, arXiv 2005.09814; as a regression of log r, REBEL, arXiv 2404.16767).

    The slope of PPO-clip, SPO and ASPO in log r carries a factor r, so their pull fades where a CFM loss has
    grown by a few units: what has left the range downwards stays lost. Here the pull grows with the distance,
    for actions of every advantage.
    """
    return advantage * (1 + log_ratio) - log_ratio.square() / (2 * clip)
