"""The lower bound of t and 1 - t where a formula divides by them."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

# A network that predicts the noise or the action gives its velocity after a division by t or by 1 - t, which are 0 at
# one end of time. Its loss is weighted by the same bounded divisor, so that the network is trained on what it computes.
SMALLEST_DIVISOR = 0.02

Divisor = TypeVar("Divisor", float, Tensor, float | Tensor)


def bounded(divisor: Divisor) -> Divisor:
    """Return `divisor`, t or 1 - t, or `SMALLEST_DIVISOR` where that is larger."""
    if isinstance(divisor, Tensor):
        return divisor.clamp(min=SMALLEST_DIVISOR)
    return max(divisor, SMALLEST_DIVISOR)
