"""The pace of a matrix: how long a cell takes, learned from those that are finished, and how long all will."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flowrl.experiments.suite.trial import Trial


class DurationEstimator:
    """How long a cell takes, learned from those that are finished."""

    def __init__(self) -> None:
        self._known: dict[Trial, float] = {}  # seconds

    def learn(self, finished: Trial, seconds: float) -> None:
        self._known[finished] = seconds

    def estimate(self, cell: Trial) -> float | None:
        """Seconds: the mean of other seeds' cells, else of the recipe's, else of all; None before the first."""
        same_recipe = {other: s for other, s in self._known.items() if other.recipe == cell.recipe}
        alike = [s for other, s in same_recipe.items() if other.algorithm == cell.algorithm]
        known = alike or list((same_recipe or self._known).values())
        return fmean(known) if known else None

    def left(
        self, waiting: Sequence[Trial], running: Sequence[tuple[Trial, float]], parallel: int
    ) -> float | None:
        """Seconds until all is done; `running` has the seconds that each cell has had already."""
        ahead = [self.estimate(cell) for cell in waiting]
        current = [(self.estimate(cell), elapsed) for cell, elapsed in running]
        if None in ahead or any(estimate is None for estimate, _ in current):
            return None
        rests = [max(0.0, (estimate or 0.0) - elapsed) for estimate, elapsed in current]
        return max([(sum(filter(None, ahead)) + sum(rests)) / parallel, *rests])
