"""How fast algorithms learn: the time to a share of the best return, and the area under the learning curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median, median_low

import numpy as np
from numpy.typing import NDArray

from flowrl.evaluation import statistics
from flowrl.experiments.comparison.results import Estimate, Scale, TimeToReturn
from flowrl.reporting.plots.learning_curves import LearningCurve, smoothed

Curves = Mapping[str, Mapping[str, Sequence[LearningCurve]]]  # by task and algorithm
Curve = NDArray[np.float64]

SHARES = (0.5, 0.75, 0.9)  # of the way from the scale's 0 to the best return
WINDOW = 20  # iterations that a return is averaged over
POINTS = 200  # of the grid for the area


def measure(curves: Curves, scales: Mapping[str, Scale]) -> dict[str, dict[str, TimeToReturn]]:
    """Measure each task's algorithms against one another.

    The best return of a task is the highest of the algorithms' median runs, each run averaged over 20 iterations, while
    training. Seconds are those of collecting and updating, as the run recorded them.
    """
    found: dict[str, dict[str, TimeToReturn]] = {}
    for task, groups in curves.items():
        runs = {name: [each for each in map(_run, members) if each is not None] for name, members in groups.items()}
        known = {name: members for name, members in runs.items() if members}
        if not known:
            continue
        scale = scales[task]
        best = max(median(float(np.nanmax(returns)) for _, _, returns in members) for members in known.values())
        way = best - scale.low
        levels = {f"{share:.0%}": scale.low + share * way if way > 0 else math.inf for share in SHARES}
        found[task] = {name: _algorithm(members, levels, scale, known) for name, members in known.items()}
    return found


Run = tuple[Curve, Curve, Curve]  # env steps, seconds, smoothed returns, (iterations,) each


def _run(curve: LearningCurve) -> Run | None:
    """Return the columns of a run; None where it has no return or no time."""
    columns = [curve.columns.get(name) for name in ("env_steps", "seconds", "return_mean")]
    if any(column is None or not np.isfinite(column).any() for column in columns):
        return None
    steps, seconds, returns = (np.asarray(column, dtype=np.float64) for column in columns)
    return steps, seconds, trailing(returns, WINDOW)


def trailing(values: Curve, window: int) -> Curve:
    """Average each value with the `window` - 1 before it (fewer at the beginning); nan counts as no value."""
    padded = np.concatenate([np.full(window - 1, np.nan), values])
    return smoothed(padded, window)[(window - 1) // 2 : (window - 1) // 2 + len(values)]


def _algorithm(
    members: Sequence[Run], levels: Mapping[str, float], scale: Scale, all_runs: Mapping[str, Sequence[Run]]
) -> TimeToReturn:
    reached, seconds, steps = {}, {}, {}
    for share, level in levels.items():
        first = [_first(returns, level) for _, _, returns in members]
        reached[share] = sum(place is not None for place in first)
        seconds[share] = _median_of([(run[1], place) for run, place in zip(members, first, strict=True)])
        steps[share] = _median_of([(run[0], place) for run, place in zip(members, first, strict=True)])
    last = min(float(run[0][-1]) for runs in all_runs.values() for run in runs)
    areas = np.array([_area(run, last, scale) for run in members])
    low, high = statistics.bootstrap(areas)
    area = Estimate(float(areas.mean()), (low, high) if isfinite(low) else None)
    return TimeToReturn(reached, seconds, steps, area if isfinite(area.value) else None)


def _first(returns: Curve, level: float) -> int | None:
    """Return the first iteration whose return is at least `level`."""
    places = np.flatnonzero(returns >= level)
    return int(places[0]) if len(places) else None


def _median_of(pairs: Sequence[tuple[Curve, int | None]]) -> float | None:
    """Return the median over runs of a column at the place; a run without one counts as infinitely late."""
    middle = median_low([float(column[place]) if place is not None else np.inf for column, place in pairs])
    return middle if isfinite(middle) else None


def _area(run: Run, last: float, scale: Scale) -> float:
    """Return the mean normalised return over the steps up to `last`; before the first return it counts as that."""
    steps, _, returns = run
    known = np.isfinite(returns)
    grid = np.linspace(float(steps[0]), last, POINTS)
    values = np.interp(grid, steps[known], returns[known])
    if scale.low == scale.high:
        return 0.5
    return float((values.mean() - scale.low) / (scale.high - scale.low))
