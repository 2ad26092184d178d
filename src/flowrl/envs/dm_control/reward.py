"""How good a number is, in [0, 1]: the `tolerance` of dm_control's rewards (arXiv 1801.00690), over tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def gaussian(distance: Tensor, value: float) -> Tensor:
    """exp(-s²d²/2) with s² = -2 ln(value), so that it is `value` at d = 1; 0 < value < 1."""
    scale = math.sqrt(-2 * math.log(value))
    return torch.exp(-0.5 * (distance * scale) ** 2)


def linear(distance: Tensor, value: float) -> Tensor:
    """1 - (1 - value)·d, and 0 where that is negative; 0 <= value < 1."""
    return (1 - distance * (1 - value)).clamp(min=0)


def quadratic(distance: Tensor, value: float) -> Tensor:
    """1 - (1 - value)·d², and 0 where that is negative; 0 <= value < 1."""
    return (1 - (distance * math.sqrt(1 - value)) ** 2).clamp(min=0)


def tolerance(
    x: Tensor,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: Callable[[Tensor, float], Tensor] = gaussian,
    value_at_margin: float = 0.1,
) -> Tensor:
    """1 where lower <= x <= upper, and less the further `x` (any shape) lies outside.

    `sigmoid(distance / margin, value_at_margin)` computes how much less, so that at `margin` from the nearer bound
    `value_at_margin` is left; without a margin it is 0 outside. NaN stays NaN.
    """
    outside = (x - x.clamp(*bounds)).abs()  # 0 inside the bounds
    if margin == 0:
        return torch.where(outside > 0, outside.new_zeros(()), 1 - outside)
    return sigmoid(outside / margin, value_at_margin)
