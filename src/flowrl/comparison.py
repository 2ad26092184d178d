"""Algorithms compared on the tasks of a matrix: what was measured, how sure it is, and what is missing.

The score of a run is its mean evaluation return. Statistics over several tasks use normalised scores and draw the
runs anew within each task (`flowrl.intervals`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl import cell, envs, intervals
from flowrl.cell import EVALUATION, FAILURE, MODES, Cell, Failure, Record
from flowrl.errors import UsageError, did_you_mean
from flowrl.intervals import Strata

Scores = NDArray[np.float64]  # (runs,)

CONTROL_RANGE = (0.0, 1000.0)  # of a control task's return: 1000 steps of rewards in [0, 1]
FEW = 5  # seeds; with fewer, an interval is narrower than it says
THRESHOLDS = 101  # points of a performance profile
PROFILE_RESAMPLES = 2_000


@dataclass(frozen=True)
class Run:
    """A finished cell."""

    seed: int
    folder: Path
    record: Record


@dataclass(frozen=True)
class Group:
    """The finished runs of an algorithm on a task, by seed."""

    runs: tuple[Run, ...]

    def returns(self, mode: str) -> Scores:
        """(runs,)"""
        return np.array([run.record.evaluations[mode].return_mean for run in self.runs])

    @property
    def config(self) -> Mapping[str, Any]:
        return self.runs[0].record.config


@dataclass(frozen=True)
class Grid:
    """Everything that is compared."""

    groups: Mapping[tuple[str, str], Group]  # (task, algorithm) -> its runs, at least one
    missing: tuple[str, ...]  # a sentence for every cell that is not finished

    @property
    def tasks(self) -> list[str]:
        return sorted({task for task, _ in self.groups})

    @property
    def algorithms(self) -> list[str]:
        return sorted({algorithm for _, algorithm in self.groups})

    @property
    def common(self) -> list[str]:
        """The tasks that every algorithm has runs of."""
        return [task for task in self.tasks if all((task, name) in self.groups for name in self.algorithms)]


@dataclass(frozen=True)
class Scale:
    """A return of `low` is a normalised score of 0, one of `high` of 1."""

    low: float
    high: float
    reason: str

    def __call__(self, returns: Scores) -> Scores:
        if self.low == self.high:
            return np.full_like(returns, 0.5)
        return (returns - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where it cannot be told."""

    value: float
    interval: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": list(self.interval) if self.interval else None}


# --- reading --------------------------------------------------------------------------------------


def noise_modes(text: str) -> tuple[str, ...]:
    """'both' → random and zero; raises UsageError."""
    if text == "both":
        return MODES
    if text not in MODES:
        near = did_you_mean(text, (*MODES, "both"))
        raise UsageError(f"--noise {text}: expected random, zero or both.{near}")
    return (text,)


def scale_of(text: str) -> Scale:
    """'0,1000' → the scale from 0 to 1000; raises UsageError."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        raise UsageError(f"--scale {text}: expected the returns that are 0 and 1, as in --scale 0,1000.")
    return Scale(low, high, f"--scale {text}")


def read(folders: Sequence[Path]) -> Grid:
    """The cells in `folders`, as `flowrl suite` writes them; raises UsageError when none is finished.

    An algorithm that two folders have under different settings, or with the same seeds, is two: 'fpo (old)' and
    'fpo (new)'. Otherwise its seeds are put together.
    """
    finished: dict[Path, dict[Cell, Run]] = {}
    unfinished: dict[Cell, str] = {}
    for out in dict.fromkeys(folders):
        finished[out] = {}
        for each, folder in cell.find(out):
            record = cell.read(folder / EVALUATION, Record)
            if record is None or not set(MODES) <= record.evaluations.keys():
                unfinished[each] = _why_unfinished(folder)
            else:
                finished[out][each] = Run(each.seed, folder, record)
        if not finished[out]:
            raise UsageError(
                f"{out} holds no finished cell (recipe/algorithm/seed0/{EVALUATION}). Make some with: "
                f"flowrl suite RECIPE --out {out}"
            )
    apart = _apart(finished)
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for out, cells in finished.items():
        for each, run in cells.items():
            label = (
                f"{each.algorithm} ({_folder_name(out, finished)})"
                if each.algorithm in apart
                else each.algorithm
            )
            runs[each.recipe, label].append(run)
    groups = {key: Group(tuple(sorted(own, key=lambda run: run.seed))) for key, own in runs.items()}
    return Grid(groups, tuple(_missing(groups, unfinished)))


def _why_unfinished(folder: Path) -> str:
    if (folder / EVALUATION).exists():
        return f"its {EVALUATION} is not whole"
    failure = cell.read(folder / FAILURE, Failure)
    if failure is None:
        return "not finished"
    return f"{'diverged' if failure.diverged else f'failed with exit {failure.exit_code}'}: {failure.message}"


def _apart(finished: Mapping[Path, Mapping[Cell, Run]]) -> set[str]:
    """The algorithms whose runs in different folders are not to be put together."""
    found = set()
    for one, other in combinations(finished.values(), 2):
        digests = {(each.recipe, each.algorithm): run.record.digest for each, run in other.items()}
        for each, run in one.items():
            if (
                each in other
                or digests.get((each.recipe, each.algorithm), run.record.digest) != run.record.digest
            ):
                found.add(each.algorithm)
    return found


def _folder_name(out: Path, among: Iterable[Path]) -> str:
    """The folder's own name where that tells it from the others."""
    names = [other.resolve().name for other in among]
    return out.resolve().name if names.count(out.resolve().name) == 1 else str(out)


def _missing(groups: Mapping[tuple[str, str], Group], unfinished: Mapping[Cell, str]) -> list[str]:
    """A sentence for every cell that has to be there for each algorithm to have the same seeds of each task."""
    algorithms = sorted({algorithm for _, algorithm in groups} | _lost(groups, unfinished))
    tasks = {task for task, _ in groups} | {each.recipe for each in unfinished}
    said = []
    for task in sorted(tasks):
        own = {
            name: {run.seed for run in groups[task, name].runs}
            for name in algorithms
            if (task, name) in groups
        }
        seeds = set().union(*own.values(), {each.seed for each in unfinished if each.recipe == task})
        for name in algorithms:
            for seed in sorted(seeds - own.get(name, set())):
                why = unfinished.get(Cell(task, name.partition(" (")[0], seed), "not there")
                said.append(f"{task} {name} seed {seed}: {why}")
    return said


def _lost(groups: Mapping[tuple[str, str], Group], unfinished: Iterable[Cell]) -> set[str]:
    """The algorithms of which no cell at all is finished."""
    known = {algorithm.partition(" (")[0] for _, algorithm in groups}
    return {each.algorithm for each in unfinished} - known


# --- statistics -----------------------------------------------------------------------------------


def compare(grid: Grid, modes: Sequence[str] = MODES, scale: Scale | None = None) -> dict[str, Any]:
    """Every number, ready for JSON: per task and over the tasks that all algorithms have, with notes in words."""
    scales = {task: scale or scale_for(grid, task) for task in grid.tasks}
    tasks = {task: _task(grid, task, modes, scales[task]) for task in grid.tasks}
    overall = _overall(grid, modes, scales)
    pairs = [pair for each in (*tasks.values(), overall) for pair in each["improvement"]]
    return {
        "algorithms": grid.algorithms,
        "noise": list(modes),
        "tasks": tasks,
        "overall": overall,
        "missing": list(grid.missing),
        "notes": [*notes(grid), *_said_of_certainty(pairs)],
    }


def scale_for(grid: Grid, task: str) -> Scale:
    """The known range of the task's returns, else from the least to the greatest return that is compared."""
    groups = [group for (own, _), group in grid.groups.items() if own == task]
    if all(_is_control_task(group.config["env"]) for group in groups):
        return Scale(*CONTROL_RANGE, "the range of a control task's return")
    returns = np.concatenate([group.returns(mode) for group in groups for mode in MODES])
    return Scale(
        float(returns.min()), float(returns.max()), "the least and the greatest return compared here"
    )


def _is_control_task(env: Mapping[str, Any]) -> bool:
    return envs.is_suite_task(env["id"]) and "max_episode_steps" not in env["options"]


def _task(grid: Grid, task: str, modes: Sequence[str], scale: Scale) -> dict[str, Any]:
    groups = {name: grid.groups[task, name] for name in grid.algorithms if (task, name) in grid.groups}
    return {
        "scale": {"low": scale.low, "high": scale.high, "reason": scale.reason},
        "algorithms": {name: _group(group, modes) for name, group in groups.items()},
        "improvement": _improvements(
            {name: {mode: [group.returns(mode)] for mode in modes} for name, group in groups.items()}, modes
        ),
    }


def _group(group: Group, modes: Sequence[str]) -> dict[str, Any]:
    records = [run.record for run in group.runs]
    return {
        "folders": [str(run.folder) for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "env": group.config["env"]["id"],
        "episodes": [record.episodes for record in records],
        "env_steps": [record.env_steps for record in records],
        "seconds": [record.seconds for record in records],
        "env_steps_per_s": [record.env_steps_per_s for record in records],
        "noise": {
            mode: {
                "action": cell.spelled(mode, group.config),
                "returns": group.returns(mode).tolist(),
                **_aggregates([group.returns(mode)]),
            }
            for mode in modes
        },
    }


def _overall(grid: Grid, modes: Sequence[str], scales: Mapping[str, Scale]) -> dict[str, Any]:
    tasks = grid.common
    scores = {
        name: {
            mode: [scales[task](grid.groups[task, name].returns(mode)) for task in tasks] for mode in modes
        }
        for name in grid.algorithms
    }
    if not tasks:
        return {"tasks": [], "algorithms": {}, "improvement": [], "profile": None}
    return {
        "tasks": tasks,
        "algorithms": {
            name: {
                "runs": sum(len(grid.groups[task, name].runs) for task in tasks),
                "noise": {
                    mode: {
                        "action": cell.spelled(mode, grid.groups[tasks[0], name].config),
                        **_aggregates(scores[name][mode]),
                    }
                    for mode in modes
                },
            }
            for name in grid.algorithms
        },
        "improvement": _improvements(scores, modes),
        "profile": _profiles(scores, modes),
    }


def _aggregates(strata: Strata) -> dict[str, Any]:
    statistics = {"mean": intervals.stratified_mean, "iqm": intervals.stratified_interquartile_mean}
    return {name: _estimate(strata, statistic).as_dict() for name, statistic in statistics.items()}


def _improvements(scores: Mapping[str, Mapping[str, Strata]], modes: Sequence[str]) -> list[dict[str, Any]]:
    """The probability that the first of each pair of algorithms is better, the noise mode being the same."""
    found = []
    for first, second in combinations(scores, 2):
        for mode in modes:
            estimate = _improvement(scores[first][mode], scores[second][mode])
            found.append({"first": first, "second": second, "noise": mode, **estimate.as_dict()})
    return found


def _improvement(x: Strata, y: Strata) -> Estimate:
    return _estimate(
        [*x, *y], lambda both: intervals.probability_of_improvement(both[: len(x)], both[len(x) :])
    )


def _profiles(scores: Mapping[str, Mapping[str, Strata]], modes: Sequence[str]) -> dict[str, Any]:
    """Share of the runs whose normalised score is above each threshold."""
    every = np.concatenate([runs for own in scores.values() for mode in modes for runs in own[mode]])
    thresholds = np.linspace(min(0.0, float(every.min())), max(1.0, float(every.max())), THRESHOLDS)
    lines: dict[str, Any] = {name: {} for name in scores}
    for name, own in scores.items():
        for mode in modes:
            low, high = intervals.stratified_bootstrap(
                own[mode],
                lambda strata: intervals.performance_profile(strata, thresholds),
                resamples=PROFILE_RESAMPLES,
            )
            known = bool(np.isfinite(low).all())
            lines[name][mode] = {
                "share": intervals.performance_profile(own[mode], thresholds).tolist(),
                "low": low.tolist() if known else None,
                "high": high.tolist() if known else None,
            }
    return {"thresholds": thresholds.tolist(), "algorithms": lines}


def _estimate(strata: Strata, statistic: Callable[[Strata], NDArray[np.float64]]) -> Estimate:
    low, high = (float(end) for end in intervals.stratified_bootstrap(strata, statistic))
    return Estimate(float(statistic(strata)), (low, high) if isfinite(low) else None)


# --- what has to be said --------------------------------------------------------------------------


def notes(grid: Grid) -> list[str]:
    """What a reader must know before believing the numbers: few seeds, unequal runs, tasks left out."""
    return [
        *_said_of_tasks(grid),
        *_said_of_seeds(grid),
        *_said_of_settings(grid),
        *_said_of_steps(grid),
        *_said_of_circumstances(grid),
    ]


def _said_of_tasks(grid: Grid) -> list[str]:
    left_out = sorted(set(grid.tasks) - set(grid.common))
    if not left_out:
        return []
    return [f"Overall is over the tasks that every algorithm has runs of: without {', '.join(left_out)}."]


def _said_of_seeds(grid: Grid) -> list[str]:
    said = []
    counts = {key: len(group.runs) for key, group in grid.groups.items()}
    single = [f"{task} {name}" for (task, name), count in counts.items() if count < 2]
    if single:
        said.append(
            f"One seed only, hence no interval: {', '.join(sorted(single))}. What includes them has none either."
        )
    least = min((count for count in counts.values() if count > 1), default=None)
    if least is not None and least < FEW:
        # The interval reaches from the least to the greatest run at most; that misses the median when all
        # runs lie on one side of it: 2 · 2⁻ⁿ.
        said.append(
            f"With {least} seeds an interval can be no wider than from the least to the greatest run, which holds the "
            f"true median only {1 - 2 ** (1 - least):.0%} of the time: read the intervals of single tasks as too "
            "narrow."
        )
    uneven = [task for task in grid.common if len({counts[task, name] for name in grid.algorithms}) > 1]
    if uneven:
        said.append(f"Unequal numbers of seeds on {', '.join(uneven)}; the missing cells are listed.")
    if len({counts[task, name] for task in grid.common for name in grid.algorithms}) > 1:
        said.append(
            "The overall interquartile mean counts runs, so that tasks with more seeds weigh more in it; the overall "
            "mean counts every task the same."
        )
    return said


def _said_of_certainty(pairs: Iterable[Mapping[str, Any]]) -> list[str]:
    if not any(pair["ci95"] and pair["value"] in (0, 1) for pair in pairs):
        return []
    return [
        "A probability of improvement of 0 or 1 has an interval without width, which is not certainty: all runs of one "
        "lie above all runs of the other, and the bootstrap knows no runs but these."
    ]


def _said_of_settings(grid: Grid) -> list[str]:
    said = []
    for (task, name), group in sorted(grid.groups.items()):
        for run in group.runs[1:]:
            if found := cell.differences(run.record.config, group.config):
                said.append(
                    f"{task} {name}: its seeds were trained with different settings: {'; '.join(found[:3])} "
                    f"(seed {run.seed} against seed {group.runs[0].seed})."
                )
                break
    return said


def _said_of_steps(grid: Grid) -> list[str]:
    said = []
    for task in grid.tasks:
        steps: dict[int, list[str]] = defaultdict(list)
        for name in grid.algorithms:
            if group := grid.groups.get((task, name)):
                for number in sorted({run.record.env_steps for run in group.runs}):
                    steps[number].append(name)
        if len(steps) > 1:
            told = ", ".join(f"{number:,} ({', '.join(names)})" for number, names in sorted(steps.items()))
            said.append(f"{task}: unequal training, in environment steps: {told}.")
    return said


def _said_of_circumstances(grid: Grid) -> list[str]:
    """Evaluations of different sizes, versions and machines."""
    said = []
    records = [run.record for group in grid.groups.values() for run in group.runs]
    episodes = sorted({record.episodes for record in records})
    if len(episodes) > 1:
        said.append(
            f"Runs were evaluated over different numbers of episodes: {', '.join(map(str, episodes))}."
        )
    versions = sorted({record.flowrl for record in records})
    if len(versions) > 1:
        said.append(f"Runs come from different versions of flowrl: {', '.join(versions)}.")
    machines = sorted(
        {re.sub(r"\s+", " ", f"{r.machine.get('processor')}, {r.jobs} at a time") for r in records}
    )
    if len(machines) > 1:
        said.append(f"Training times are not comparable: {'; '.join(machines)}.")
    return said
