"""Estimate how long a suite still takes, from the trials that have finished."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flowrl.experiments.suite.trial import Trial


class DurationEstimator:
    """Estimates the duration of trials from those that have finished."""

    def __init__(self) -> None:
        self._known: dict[Trial, float] = {}  # seconds

    def learn(self, finished: Trial, seconds: float) -> None:
        """Record that `finished` took `seconds`."""
        self._known[finished] = seconds

    def estimate(self, trial: Trial) -> float | None:
        """Estimate a trial's seconds: the mean over its other seeds, else over its recipe, else over all trials.

        None before the first trial has finished.
        """
        same_recipe = {other: s for other, s in self._known.items() if other.recipe == trial.recipe}
        same_algorithm = [s for other, s in same_recipe.items() if other.label == trial.label]
        known = same_algorithm or list((same_recipe or self._known).values())
        return fmean(known) if known else None

    def remaining(
        self, waiting: Sequence[Trial], running: Sequence[tuple[Trial, float]], parallel: int
    ) -> float | None:
        """Estimate the seconds until all trials are done; `running` pairs each trial with its seconds so far.

        None before the first trial has finished.
        """
        ahead = [self.estimate(trial) for trial in waiting]
        current = [(self.estimate(trial), elapsed) for trial, elapsed in running]
        if None in ahead or any(estimate is None for estimate, _ in current):
            return None
        rests = [max(0.0, (estimate or 0.0) - elapsed) for estimate, elapsed in current]
        return max([(sum(filter(None, ahead)) + sum(rests)) / parallel, *rests])
