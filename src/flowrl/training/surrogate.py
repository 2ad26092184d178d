"""Surrogate objectives, to be maximised: log-ratio (batch, n), advantage (batch, 1), clip → (batch, n).

A new one is a function here, its name in `Surrogate` and its row in `SURROGATES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor


def ppo_clip(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Compute PPO's clipped surrogate (batch, n): min(r A, clamp(r, 1 - ε, 1 + ε) A) with r = exp(log-ratio)
    (Schulman et al. 2017, arXiv 1707.06347, eq. 7)."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def spo(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Compute r A - |A| / (2 ε) · (r - 1)², greatest at r = 1 + sign(A) ε (Simple Policy Optimization,
    arXiv 2401.16025)."""
    ratio = log_ratio.exp()
    return ratio * advantage - advantage.abs() / (2 * clip) * (ratio - 1).square()


def aspo(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Compute PPO-clip where A ≥ 0 and SPO where A < 0, which pulls a ratio that fell below 1 - ε back up
    (FPO++, arXiv 2602.02481)."""
    return torch.where(advantage >= 0, ppo_clip(log_ratio, advantage, clip), spo(log_ratio, advantage, clip))


def mirror(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Compute A (1 + log r) - (log r)² / (2 ε), greatest at log r = ε A: a step of mirror descent,
    π_new ∝ π_old exp(ε A) (Mirror Descent Policy Optimization, arXiv 2005.09814; as a regression of log r, REBEL,
    arXiv 2404.16767).

    The slope of PPO-clip, SPO and ASPO in log r carries a factor r, so their pull fades where a CFM loss has
    grown by a few units, and an action that left the range downwards does not return. Here the pull grows with the
    distance, for actions of every advantage.

    The step of mirror descent is log r = ε A - log E exp(ε A); the last term, which does not depend on the action, is
    left out: 0.02 nats at ε = 0.2 and standardised advantages, 3 nats at ε = 2.5.
    """
    return advantage * (1 + log_ratio) - log_ratio.square() / (2 * clip)


Surrogate = Annotated[
    Literal["ppo", "spo", "aspo", "mirror"],
    Field(
        description="Objective: PPO-clip, SPO, ASPO (clip where A ≥ 0, SPO where A < 0), or mirror descent, "
        "log r → clip · A, which alone pulls back a ratio that has fallen near zero: the steadiest for flows."
    ),
]
SURROGATES: dict[Surrogate, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ppo": ppo_clip,
    "spo": spo,
    "aspo": aspo,
    "mirror": mirror,
}
