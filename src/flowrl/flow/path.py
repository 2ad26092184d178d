"""The straight path between noise and action: the one place that knows which end of time is which.

t = 0 is noise, t = 1 is the action (FPO, arXiv 2507.21053, sec. 3).
"""

from __future__ import annotations

from torch import Tensor


def interpolate(noise: Tensor, action: Tensor, t: float | Tensor) -> Tensor:
    """Compute x_t = t · action + (1 - t) · noise; the shapes broadcast."""
    return noise + t * (action - noise)


def target_velocity(noise: Tensor, action: Tensor) -> Tensor:
    """Compute u = dx_t/dt = action - noise, the same at every time of a straight path."""
    return action - noise
