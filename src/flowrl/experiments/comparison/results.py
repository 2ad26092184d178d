"""A comparison of algorithms on tasks: what was measured, how sure it is, what is missing; and its JSON document.

The score of a run is its mean evaluation return. Over several tasks the scores are normalised, each task's by a scale
of its own. `flowrl.experiments.comparison.compute` makes a comparison of finished runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where it cannot be told."""

    value: float
    interval: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": list(self.interval) if self.interval else None}


@dataclass(frozen=True)
class Scale:
    """A return of `low` is a normalised score of 0, one of `high` of 1."""

    low: float
    high: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "reason": self.reason}


@dataclass(frozen=True)
class ScoreEstimate:
    """How good an algorithm's runs are under one noise mode."""

    action: str  # what the mode is called where its policy acts: zero noise is the mean action of a Gaussian
    mean: Estimate
    iqm: Estimate  # interquartile mean

    def as_dict(self) -> dict[str, Any]:
        return {"action": self.action, "mean": self.mean.as_dict(), "iqm": self.iqm.as_dict()}


@dataclass(frozen=True)
class Improvement:
    """How likely a run of the `first` algorithm is better than one of the `second`, both under one noise mode."""

    first: str
    second: str
    mode: str
    probability: Estimate

    def as_dict(self) -> dict[str, Any]:
        pair = {"first": self.first, "second": self.second, "noise": self.mode}
        return pair | self.probability.as_dict()


# --- task by task ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunResult:
    """A run that is compared."""

    folder: str
    seed: int
    episodes: int  # of its evaluation
    env_steps: int  # of its training
    seconds: float
    env_steps_per_s: float | None
    returns: Mapping[str, float]  # noise mode -> mean return
    # noise mode -> what else is known of the episodes -> its mean
    measures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class AlgorithmResult:
    """An algorithm on a task: its runs, by seed, and how good they are."""

    env: str
    trials: tuple[RunResult, ...]
    scores: Mapping[str, ScoreEstimate]  # noise mode -> of the returns as they are
    # noise mode -> what all trials know of -> its mean over them
    measures: Mapping[str, Mapping[str, Estimate]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "folders": [trial.folder for trial in self.trials],
            "seeds": [trial.seed for trial in self.trials],
            "env": self.env,
            "episodes": [trial.episodes for trial in self.trials],
            "env_steps": [trial.env_steps for trial in self.trials],
            "seconds": [trial.seconds for trial in self.trials],
            "env_steps_per_s": [trial.env_steps_per_s for trial in self.trials],
            "noise": {
                mode: {
                    "action": score.action,
                    "returns": [trial.returns[mode] for trial in self.trials],
                    **score.as_dict(),
                    "measures": {
                        name: {
                            "values": [trial.measures[mode][name] for trial in self.trials],
                            **mean.as_dict(),
                        }
                        for name, mean in self.measures[mode].items()
                    },
                }
                for mode, score in self.scores.items()
            },
        }


@dataclass(frozen=True)
class TaskComparison:
    """The algorithms on one task."""

    scale: Scale
    entries: Mapping[str, AlgorithmResult]  # algorithm -> its runs here, at least one
    improvements: tuple[Improvement, ...]  # of every pair of them

    def as_dict(self) -> dict[str, Any]:
        return {
            "scale": self.scale.as_dict(),
            "algorithms": {name: entry.as_dict() for name, entry in self.entries.items()},
            "improvement": [improvement.as_dict() for improvement in self.improvements],
        }


# --- over the tasks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Total:
    """An algorithm on all tasks together."""

    runs: int
    scores: Mapping[str, ScoreEstimate]  # noise mode -> of the normalised scores

    def as_dict(self) -> dict[str, Any]:
        return {"runs": self.runs, "noise": {mode: score.as_dict() for mode, score in self.scores.items()}}


@dataclass(frozen=True)
class ProfileLine:
    """The share of an algorithm's runs whose normalised score is above each threshold, and its 95 % band."""

    share: tuple[float, ...]  # (thresholds,)
    band: tuple[tuple[float, ...], tuple[float, ...]] | None  # its lower and upper end; None: cannot be told

    def as_dict(self) -> dict[str, Any]:
        low, high = self.band or (None, None)
        return {
            "share": list(self.share),
            "low": None if low is None else list(low),
            "high": None if high is None else list(high),
        }


@dataclass(frozen=True)
class Profile:
    """Performance profiles."""

    thresholds: tuple[float, ...]  # normalised scores, rising
    lines: Mapping[str, Mapping[str, ProfileLine]]  # algorithm -> noise mode -> its line

    def as_dict(self) -> dict[str, Any]:
        return {
            "thresholds": list(self.thresholds),
            "algorithms": {
                name: {mode: line.as_dict() for mode, line in lines.items()}
                for name, lines in self.lines.items()
            },
        }


@dataclass(frozen=True)
class Overall:
    """The algorithms over the tasks that all of them have runs of; empty where there is no such task."""

    tasks: tuple[str, ...] = ()
    totals: Mapping[str, Total] = field(default_factory=dict)  # algorithm -> its total
    improvements: tuple[Improvement, ...] = ()  # of every pair of them
    profile: Profile | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "tasks": list(self.tasks),
            "algorithms": {name: total.as_dict() for name, total in self.totals.items()},
            "improvement": [improvement.as_dict() for improvement in self.improvements],
            "profile": self.profile.as_dict() if self.profile else None,
        }


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    algorithms: tuple[str, ...]
    modes: tuple[str, ...]  # of the noise
    tasks: Mapping[str, TaskComparison]
    overall: Overall
    missing: tuple[str, ...]  # a sentence for every cell that is not finished
    notes: tuple[str, ...]  # what a reader must know before believing the numbers, a sentence or two each

    def as_dict(self) -> dict[str, Any]:
        """The JSON document, as compare.json holds it."""
        return {
            "algorithms": list(self.algorithms),
            "noise": list(self.modes),
            "tasks": {name: task.as_dict() for name, task in self.tasks.items()},
            "overall": self.overall.as_dict(),
            "missing": list(self.missing),
            "notes": list(self.notes),
        }
