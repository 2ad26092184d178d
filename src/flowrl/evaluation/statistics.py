"""Means and interquartile means over episodes or seeds, with their confidence intervals.

Statistics over several tasks take strata: one array of scores per task, whose runs are resampled within their task
(Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", arXiv 2108.13264).

Every interval is two-sided. Without a spread (no value, or one) an interval is nan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]  # (low, high)
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (..., values) -> (...)
Strata = Sequence[NDArray[np.float64]]  # one array (..., runs) per task; tasks may differ in their runs

CHUNK = 1_000_000  # resampled values held at once: 8 MB, whatever the number of values


def mean(values: ArrayLike) -> NDArray[np.float64]:
    """Return the mean over the last axis, which holds at least one value."""
    return np.asarray(np.asarray(values, dtype=np.float64).mean(axis=-1))


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Return the mean of the middle half of the last axis: without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest.

    It resists outliers as the median does and discards half as much data; the same numbers as
    `scipy.stats.trim_mean(x, 0.25)` (Agarwal et al., arXiv 2108.13264).
    """
    x = np.asarray(values, dtype=np.float64)
    low = x.shape[-1] // 4
    high = x.shape[-1] - low
    return np.asarray(np.partition(x, [low, high - 1], axis=-1)[..., low:high].mean(axis=-1))


def deviation(values: ArrayLike) -> float:
    """Return the standard deviation √(Σ (xᵢ - x̄)² / (n-1)); nan for fewer than two values."""
    x = _vector(values)
    return float(x.std(ddof=1)) if x.size > 1 else nan


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of the mean: the standard deviation divided by √n; nan for fewer than two values."""
    x = _vector(values)
    return deviation(x) / sqrt(x.size) if x.size > 1 else nan


def bootstrap(
    values: ArrayLike, statistic: Statistic = mean, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of a statistic (Efron 1979); the same for the same seed.

    The values are resampled with replacement `resamples` times, and the interval runs from the
    (1-level)/2 to the (1+level)/2 quantile of the statistic of these samples. (nan, nan) for fewer than
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
    """Return Wilson's score interval of a success rate (Wilson 1927); (nan, nan) without trials.

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
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return 0.0 if successes == 0 else low, 1.0 if successes == trials else high  # exactly, whatever the rounding


# --- over several tasks ---------------------------------------------------------------------------


def stratified_mean(strata: Strata) -> NDArray[np.float64]:
    """Return the mean over the tasks of the mean over each one's runs: every task has the same weight."""
    return np.asarray(np.mean([mean(runs) for runs in strata], axis=0))


def stratified_interquartile_mean(strata: Strata) -> NDArray[np.float64]:
    """Return the interquartile mean of all runs of all tasks together: every run has the same weight."""
    return interquartile_mean(np.concatenate(list(strata), axis=-1))


def probability_of_improvement(x: Strata, y: Strata) -> NDArray[np.float64]:
    """Return how likely a run of `x` is better than one of `y` on the same task.

    The mean over the tasks of P(X > Y) + ½ P(X = Y), each over all pairs of runs (Mann and Whitney's U divided by
    their number).
    """
    return np.asarray(np.mean([_share_above(a, b) for a, b in zip(x, y, strict=True)], axis=0))


def detectable_difference(x: Strata, y: Strata, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the least difference of two stratified means that a t-test at `level` would find with this `power`.

    (t_{(1 + level) / 2} + t_{power}) · SE with SE² = Σ over tasks (s²_x / n_x + s²_y / n_y) / tasks², and as many
    degrees of freedom as runs minus groups (Cohen 1988, "Statistical Power Analysis", chapter 2). nan where a task has
    fewer than two runs.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    groups = [*x, *y]
    if any(len(runs) < 2 for runs in groups):
        return nan
    error = sqrt(sum(deviation(runs) ** 2 / len(runs) for runs in groups)) / len(x)
    freedom = sum(len(runs) - 1 for runs in groups)
    return float(stdtrit(freedom, (1 + level) / 2) + stdtrit(freedom, power)) * error


def performance_profile(strata: Strata, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., thresholds): the mean over the tasks of the share of runs whose score is above each threshold."""
    above = [(runs[..., None] > thresholds).mean(axis=-2) for runs in strata]
    return np.asarray(np.mean(above, axis=0))


def stratified_bootstrap(
    strata: Strata,
    statistic: Callable[[Strata], NDArray[np.float64]],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the percentile bootstrap interval (low, high) of a statistic over tasks; the same for the same seed.

    The runs (runs,) of each task are resampled with replacement among themselves, so that every resample
    has as many runs of a task as there are. nan where a task has fewer than two runs: it would not vary.
    """
    sizes = np.array([_vector(runs).size for runs in strata])
    ends = np.cumsum(sizes)
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // int(ends[-1]))
    draws = []
    for done in range(0, resamples, rows):
        place = generator.random((min(rows, resamples - done), int(ends[-1])))  # [0, 1): which run, of those
        pieces = np.split(place, ends[:-1], axis=1)
        drawn = [runs[(piece * runs.size).astype(np.intp)] for runs, piece in zip(strata, pieces, strict=True)]
        draws.append(statistic(drawn))
    low, high = np.quantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2], axis=0)
    if (sizes < 2).any():
        return np.full_like(low, nan), np.full_like(high, nan)
    return low, high


def _share_above(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of pairs (x, y) of the last axes with x > y, ties counting half."""
    difference = x[..., :, None] - y[..., None, :]
    return np.asarray((np.sign(difference).mean(axis=(-1, -2)) + 1) / 2)


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not of shape {x.shape}")
    return x
