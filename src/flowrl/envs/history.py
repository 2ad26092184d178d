"""The last observations of an episode side by side: `env.history`."""

from __future__ import annotations

import torch
from torch import Tensor


def with_history(before: Tensor, obs: Tensor, successor: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
    """Return what to act on next and what the action led to, (count, history · observation) each, the oldest first.

    `before` (count, history · observation) is what was acted on; `obs` and `successor` (count, observation) are those
    of `flowrl.contracts.protocols.Step`. They differ in the rows that `ended`: there the first observation of the next
    episode fills all places.
    """
    size = obs.shape[1]
    successor = torch.cat([before[:, size:], successor], dim=1)
    if not len(ended):
        return successor, successor
    first = obs[ended].repeat(1, before.shape[1] // size)
    return successor.index_copy(0, ended, first), successor
