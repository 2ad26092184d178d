"""The Pareto front: the choices that no other choice beats in both cost and quality."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Better = Literal["higher", "lower"]


def front(cost: ArrayLike, quality: ArrayLike, better: Better = "higher") -> NDArray[np.bool_]:
    """Return which of the points (cost, quality) no other one beats: (points,) bool.

    A point is beaten by one that costs no more and is no worse, and is cheaper or better (so of equal points
    either all are beaten or none). A point with a number that is not finite is beaten.
    """
    cost = np.asarray(cost, dtype=float)
    gain = np.asarray(quality, dtype=float) * (1 if better == "higher" else -1)
    known = np.isfinite(cost) & np.isfinite(gain)
    # [i, j]: how point i compares with point j
    no_worse = (cost[:, None] <= cost) & (gain[:, None] >= gain) & known[:, None]
    strictly = (cost[:, None] < cost) | (gain[:, None] > gain)
    beaten = (no_worse & strictly).any(axis=0)
    return np.asarray(known & ~beaten, dtype=np.bool_)
