"""Load the finished trials of one or more suites, grouped by task and algorithm."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.config.recipe import leaves
from flowrl.config.yaml_reader import dotted
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.experiments.suite import grid
from flowrl.experiments.suite.trial import (
    EVALUATION,
    FAILURE,
    MODES,
    Failure,
    Trial,
    TrialRecord,
    find_trials,
    read_record,
)


@dataclass(frozen=True)
class LoadedRun:
    """A finished trial."""

    seed: int
    folder: Path
    record: TrialRecord


@dataclass(frozen=True)
class Group:
    """The finished runs of an algorithm on a task, by seed."""

    runs: tuple[LoadedRun, ...]

    def returns(self, mode: str) -> NDArray[np.float64]:
        """Return each run's mean return under a noise mode, (runs,)."""
        return np.array([run.record.evaluations[mode].return_mean for run in self.runs])

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the first run."""
        return self.runs[0].record.config


@dataclass(frozen=True)
class LoadedSuites:
    """The finished trials of one or more suites."""

    groups: Mapping[tuple[str, str], Group]  # (task, algorithm) -> its runs, at least one
    missing: tuple[str, ...]  # a sentence for every trial that is not finished

    @property
    def tasks(self) -> list[str]:
        """The names of all tasks, sorted."""
        return sorted({task for task, _ in self.groups})

    @property
    def algorithms(self) -> list[str]:
        """The names of all algorithms, sorted."""
        return sorted({algorithm for _, algorithm in self.groups}, key=_natural)

    @property
    def common(self) -> list[str]:
        """The tasks that every algorithm has runs of."""
        return [task for task in self.tasks if len(self.on(task)) == len(self.algorithms)]

    def on(self, task: str) -> dict[str, Group]:
        """Return the runs of each algorithm on a task; algorithms without any are left out."""
        return {name: self.groups[task, name] for name in self.algorithms if (task, name) in self.groups}


# --- reading --------------------------------------------------------------------------------------


def read(folders: Sequence[Path], by: Sequence[str] = ()) -> LoadedSuites:
    """Load the trials in `folders`, as `flowrl suite` writes them; raises UsageError when none is finished.

    `by` are keys of a recipe, such as 'learner.clip': runs with equal values of these are compared with runs that have
    others, whatever else differs among them; algorithms stay apart. Without, algorithms and the cells of grids are
    compared.

    Seeds of one algorithm in several folders are combined. An algorithm that two folders have under different
    settings, or with the same seeds, counts as two: 'fpo (old)' and 'fpo (new)'.
    """
    finished: dict[Path, dict[Trial, LoadedRun]] = {}
    unfinished: dict[Trial, str] = {}
    for out in dict.fromkeys(folders):
        finished[out] = {}
        for trial, folder in find_trials(out):
            record = read_record(folder / EVALUATION, TrialRecord)
            if record is None or not set(MODES) <= record.evaluations.keys():
                unfinished[trial] = _why_unfinished(folder)
            else:
                finished[out][trial] = LoadedRun(trial.seed, folder, record)
        if not finished[out]:
            raise _nothing_finished(out)
    if by:
        left_out = tuple(f"{trial}: {why}" for trial, why in sorted(unfinished.items()))
        return LoadedSuites(_groups_by(finished, by), left_out)
    groups = _groups(finished)
    return LoadedSuites(groups, tuple(_missing(groups, unfinished)))


def _nothing_finished(out: Path) -> UsageError:
    if (out / "config.yaml").exists():
        return UsageError(
            f"{out} is a single run, and flowrl compare takes the folders of flowrl suite. Type flowrl plot {out}, or "
            f"flowrl eval {out}."
        )
    return UsageError(
        f"{out} holds no finished trial (recipe/algorithm/seed0/{EVALUATION}). Run some with: "
        f"flowrl suite RECIPE --out {out}"
    )


def _why_unfinished(folder: Path) -> str:
    if (folder / EVALUATION).exists():
        return f"its {EVALUATION} is incomplete"
    failure = read_record(folder / FAILURE, Failure)
    if failure is None:
        return "not finished"
    return f"{'diverged' if failure.diverged else f'failed with exit {failure.exit_code}'}: {failure.message}"


# --- runs of several folders ----------------------------------------------------------------------


def _groups(finished: Mapping[Path, Mapping[Trial, LoadedRun]]) -> dict[tuple[str, str], Group]:
    """Map (task, label of the algorithm) to its runs in all folders."""
    separate = _separate(finished)
    runs: dict[tuple[str, str], list[LoadedRun]] = defaultdict(list)
    for out, trials in finished.items():
        suffix = f" ({_folder_name(out, finished)})"
        for trial, run in trials.items():
            label = trial.label + (suffix if trial.label in separate else "")
            runs[trial.recipe, label].append(run)
    return {key: Group(tuple(sorted(members, key=lambda run: run.seed))) for key, members in runs.items()}


def _groups_by(finished: Mapping[Path, Mapping[Trial, LoadedRun]], by: Sequence[str]) -> dict[tuple[str, str], Group]:
    """Map (task, label of the values of the keys `by`) to its runs in all folders."""
    trials = [(trial, run) for folder in finished.values() for trial, run in folder.items()]
    settings = [dict(leaves(run.record.config)) for _, run in trials]
    known = {dotted(path) for each in settings for path in each}
    for key in by:
        if key not in known:
            raise UsageError(f"--by {key}: no run has this key.{did_you_mean(key, sorted(known))}")
    several = len({trial.algorithm for trial, _ in trials}) > 1 and "algorithm" not in by
    runs: dict[tuple[str, str], list[LoadedRun]] = defaultdict(list)
    for (trial, run), values in zip(trials, settings, strict=True):
        of_key = {dotted(path): value for path, value in values.items()}
        words = [f"{key.rpartition('.')[2]}={grid.text_of(of_key[key]) if key in of_key else 'unset'}" for key in by]
        runs[trial.recipe, ",".join([trial.algorithm, *words] if several else words)].append(run)
    return {key: Group(tuple(sorted(members, key=lambda run: run.seed))) for key, members in runs.items()}


def _natural(label: str) -> list[tuple[str, float]]:
    """Return a key that sorts the numbers in labels by size: clip=0.2 before clip=0.05e1."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return [(text, float(number)) for text, number in zip(parts[::2], [*parts[1::2], "0"], strict=True)]


def _separate(finished: Mapping[Path, Mapping[Trial, LoadedRun]]) -> set[str]:
    """Find the algorithms whose runs in different folders must not be combined."""
    algorithms = set()
    for one, other in combinations(finished.values(), 2):
        digests = {(trial.recipe, trial.label): run.record.digest for trial, run in other.items()}
        for trial, run in one.items():
            digest = digests.get((trial.recipe, trial.label), run.record.digest)
            if trial in other or digest != run.record.digest:
                algorithms.add(trial.label)
    return algorithms


def _folder_name(out: Path, among: Iterable[Path]) -> str:
    """Return the folder's name where it is unique among the others, else its path."""
    names = [other.resolve().name for other in among]
    return out.resolve().name if names.count(out.resolve().name) == 1 else str(out)


def _unlabelled(algorithm: str) -> str:
    """Turn 'fpo (old)' into 'fpo'."""
    return algorithm.partition(" (")[0]


# --- what is missing ------------------------------------------------------------------------------


def _missing(groups: Mapping[tuple[str, str], Group], unfinished: Mapping[Trial, str]) -> list[str]:
    """Return a sentence for every trial that is missing for all algorithms to have equal seeds on each task."""
    finished = {algorithm for _, algorithm in groups}
    never_finished = {trial.label for trial in unfinished} - set(map(_unlabelled, finished))
    algorithms = sorted(finished | never_finished)
    tasks = {task for task, _ in groups} | {trial.recipe for trial in unfinished}
    sentences = []
    for task in sorted(tasks):
        seeds_of = {
            name: {run.seed for run in groups[task, name].runs} if (task, name) in groups else set()
            for name in algorithms
        }
        seeds = set().union(*seeds_of.values(), {trial.seed for trial in unfinished if trial.recipe == task})
        for name in algorithms:
            for seed in sorted(seeds - seeds_of[name]):
                algorithm, _, cell = _unlabelled(name).partition(",")
                why = unfinished.get(Trial(task, algorithm, seed, cell), "not there")
                sentences.append(f"{task} {name} seed {seed}: {why}")
    return sentences
