"""The result of a comparison of algorithms on tasks: estimates with intervals, missing trials and notes.

The field names are the keys of the JSON document. The score of a run is its mean evaluation return. Over several tasks
the scores are normalised, with one scale per task. `flowrl.experiments.comparison.compute` computes a comparison from
finished runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Interval = tuple[float, float]  # 95 %, lower and upper end


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    ci95: Interval | None  # None with fewer than two runs


@dataclass(frozen=True)
class Scale:
    """A return of `low` is a normalised score of 0, one of `high` of 1."""

    low: float
    high: float
    reason: str


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of the `first` algorithm is better than one of the `second`, under one noise mode."""

    first: str
    second: str
    noise: str
    value: float
    ci95: Interval | None
    difference: float  # of their mean scores, first minus second; over several tasks normalised
    detectable: float | None  # the least difference that so many runs would show; None with fewer than two runs

    @property
    def winner(self) -> str | None:
        """The algorithm that is ahead by at least what is detectable; None where that cannot be said."""
        if self.detectable is None or abs(self.difference) < max(self.detectable, 1e-12):
            return None
        return self.first if self.difference > 0 else self.second


@dataclass(frozen=True)
class TimeToReturn:
    """When the runs of an algorithm on a task reach a return while they train, and how they do over all their steps."""

    reached: Mapping[str, int]  # share of the best return, '50 %' -> runs that reach it
    seconds: Mapping[str, float | None]  # of training, the median run; None where less than half of them reach it
    env_steps: Mapping[str, float | None]  # the same in steps
    area: Estimate | None  # mean normalised return over the steps that all runs have; None without a curve


# --- task by task ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeasureEstimate:
    """A measure besides the return, such as the success rate: its mean over the runs."""

    values: tuple[float, ...]  # (runs,)
    value: float
    ci95: Interval | None


@dataclass(frozen=True)
class NoiseResult:
    """An algorithm's runs on a task under one noise mode."""

    action: str  # name of the mode for this policy: zero noise is the mean action of a Gaussian
    returns: tuple[float, ...]  # (runs,)
    mean: Estimate
    iqm: Estimate  # interquartile mean
    measures: Mapping[str, MeasureEstimate]  # those that all runs have


@dataclass(frozen=True)
class AlgorithmResult:
    """An algorithm's runs on a task, in the order of their seeds, at least one."""

    folders: tuple[str, ...]
    seeds: tuple[int, ...]
    env: str
    episodes: tuple[int, ...]  # of each run's evaluation
    env_steps: tuple[int, ...]  # of each run's training
    seconds: tuple[float, ...]
    env_steps_per_s: tuple[float | None, ...]
    noise: Mapping[str, NoiseResult]  # by noise mode


@dataclass(frozen=True)
class TaskComparison:
    """The algorithms on one task."""

    scale: Scale
    algorithms: Mapping[str, AlgorithmResult]
    improvement: tuple[Improvement, ...]  # of every pair of algorithms


# --- over the tasks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreEstimate:
    """The normalised scores of an algorithm's runs under one noise mode."""

    action: str
    mean: Estimate
    iqm: Estimate


@dataclass(frozen=True)
class Total:
    """An algorithm on all tasks together."""

    runs: int
    noise: Mapping[str, ScoreEstimate]  # by noise mode


@dataclass(frozen=True)
class ProfileLine:
    """The share of an algorithm's runs whose normalised score is above each threshold, with its 95 % band."""

    share: tuple[float, ...]  # (thresholds,)
    low: tuple[float, ...] | None  # None with fewer than two runs on a task
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class Profile:
    """Performance profiles."""

    thresholds: tuple[float, ...]  # normalised scores, rising
    algorithms: Mapping[str, Mapping[str, ProfileLine]]  # by algorithm and noise mode


@dataclass(frozen=True)
class Overall:
    """The algorithms over the tasks that all of them have runs of; empty where there is no such task."""

    tasks: tuple[str, ...] = ()
    algorithms: Mapping[str, Total] = field(default_factory=dict)
    improvement: tuple[Improvement, ...] = ()  # of every pair of algorithms
    profile: Profile | None = None


@dataclass(frozen=True)
class Comparison:
    """A comparison of algorithms, task by task and over all tasks."""

    algorithms: tuple[str, ...]
    noise: tuple[str, ...]  # the noise modes
    tasks: Mapping[str, TaskComparison]
    overall: Overall
    missing: tuple[str, ...]  # a sentence for every trial that is not finished
    speed: Mapping[str, Mapping[str, TimeToReturn]]  # by task and algorithm
    notes: tuple[str, ...]  # what limits the conclusions, a sentence or two each

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document, as compare.json holds it."""
        return asdict(self)
