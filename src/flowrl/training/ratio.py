"""Log-ratio of the new policy to the old one, from losses or from log-probabilities."""

from __future__ import annotations

from torch import Tensor


def averaged(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """FPO: log r = mean over probes of (old loss - new loss); (batch, n) → (batch, 1).

    FPO, arXiv 2507.21053, eq. 13: the mean stands before the exponential.
    """
    return (old_loss - new_loss).mean(dim=-1, keepdim=True)


def per_probe(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """FPO++: log r_i = old loss_i - new loss_i, one ratio per probe; (batch, n) → (batch, n).

    FPO++, arXiv 2602.02481: every probe is clipped on its own.
    """
    return old_loss - new_loss


def likelihood(old_log_probability: Tensor, new_log_probability: Tensor) -> Tensor:
    """PPO: log r = log π_new(a|o) - log π_old(a|o); (batch,) → (batch, 1)."""
    return (new_log_probability - old_log_probability).unsqueeze(-1)


def bounded(log_ratio: Tensor, bound: float) -> Tensor:
    """The log-ratio kept within ±bound in value, with the gradient passed through unchanged.

    exp overflows float32 at 88.7 and then 0 · inf makes the gradient NaN even where the clipped branch is
    chosen; a bounded value keeps it finite, and passing the gradient keeps the pull back alive.
    """
    return log_ratio + (log_ratio.clamp(-bound, bound) - log_ratio).detach()
