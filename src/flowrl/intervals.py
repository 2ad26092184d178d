"""How far a mean over episodes or seeds can be trusted: mean, interquartile mean and their intervals.

Every interval is two-sided. Where the data say nothing (no value, or one value and hence no spread) the
result is nan instead of an interval that looks certain.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]  # (low, high)
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (..., values) -> (...)

CHUNK = 1_000_000  # resampled values held at once: 8 MB, whatever the number of values


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean over the last axis, which holds at least one value."""
    return np.asarray(np.asarray(values, dtype=np.float64).mean(axis=-1))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis: sorted, without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest.

    Cuts outliers as the median does and wastes half as much data; the same numbers as
    `scipy.stats.trim_mean(x, 0.25)` (Agarwal et al., arXiv 2108.13264).
    """
    x = np.asarray(values, dtype=np.float64)
    low = x.shape[-1] // 4
    high = x.shape[-1] - low
    return np.asarray(np.partition(x, [low, high - 1], axis=-1)[..., low:high].mean(axis=-1))


def deviation(values: ArrayLike) -> float:
    """Standard deviation √(Σ (xᵢ - x̄)² / (n-1)); nan for fewer than two values."""
    x = _vector(values)
    return float(x.std(ddof=1)) if x.size > 1 else nan


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean: the standard deviation divided by √n; nan for fewer than two values."""
    x = _vector(values)
    return deviation(x) / sqrt(x.size) if x.size > 1 else nan


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = mean,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic (Efron 1979); the same for the same seed.

    The values are drawn anew with replacement `resamples` times, and the interval runs from the
    (1-level)/2 to the (1+level)/2 quantile of the statistic of these draws. (nan, nan) for fewer than
    two values.
    """
    x = _vector(values)
    if x.size < 2:
        return nan, nan
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // x.size)
    draws = np.concatenate(
        [
            statistic(x[generator.integers(x.size, size=(min(rows, resamples - done), x.size))])
            for done in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate (Wilson 1927); (nan, nan) without trials.

    With p = successes/trials, n = trials and z the normal quantile of `level`:
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z √(p(1-p)/n) it has a width at p = 0
    and p = 1, and stays within [0, 1].
    """
    if trials == 0:
        return nan, nan
    p, n, z = successes / trials, trials, NormalDist().inv_cdf((1 + level) / 2)
    centre = p + z**2 / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not of shape {x.shape}")
    return x
