"""The grid of finished runs that are compared, as `flowrl suite` leaves them in one or more folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.experiments.suite.trial import EVALUATION, FAILURE, MODES, Failure, Trial, TrialRecord
from flowrl.experiments.suite.trial import find as find_cells
from flowrl.experiments.suite.trial import read as read_record


@dataclass(frozen=True)
class LoadedRun:
    """A finished cell."""

    seed: int
    folder: Path
    record: TrialRecord


@dataclass(frozen=True)
class Group:
    """The finished runs of an algorithm on a task, by seed."""

    runs: tuple[LoadedRun, ...]

    def returns(self, mode: str) -> NDArray[np.float64]:
        """(runs,)"""
        return np.array([run.record.evaluations[mode].return_mean for run in self.runs])

    @property
    def config(self) -> Mapping[str, Any]:
        return self.runs[0].record.config


@dataclass(frozen=True)
class LoadedSuites:
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
        return [task for task in self.tasks if len(self.on(task)) == len(self.algorithms)]

    def on(self, task: str) -> dict[str, Group]:
        """The algorithms that have runs of a task -> these."""
        return {name: self.groups[task, name] for name in self.algorithms if (task, name) in self.groups}


# --- reading --------------------------------------------------------------------------------------


def read(folders: Sequence[Path]) -> LoadedSuites:
    """The cells in `folders`, as `flowrl suite` writes them; raises UsageError when none is finished.

    An algorithm that two folders have under different settings, or with the same seeds, is two: 'fpo (old)' and
    'fpo (new)'. Otherwise its seeds are put together.
    """
    finished: dict[Path, dict[Trial, LoadedRun]] = {}
    unfinished: dict[Trial, str] = {}
    for out in dict.fromkeys(folders):
        finished[out] = {}
        for cell, folder in find_cells(out):
            record = read_record(folder / EVALUATION, TrialRecord)
            if record is None or not set(MODES) <= record.evaluations.keys():
                unfinished[cell] = _why_unfinished(folder)
            else:
                finished[out][cell] = LoadedRun(cell.seed, folder, record)
        if not finished[out] and (out / "config.yaml").exists():
            raise UsageError(
                f"{out} is a single run, and flowrl compare takes the folders of flowrl suite. Type flowrl plot {out}, "
                f"or flowrl eval {out}."
            )
        if not finished[out]:
            raise UsageError(
                f"{out} holds no finished cell (recipe/algorithm/seed0/{EVALUATION}). Make some with: "
                f"flowrl suite RECIPE --out {out}"
            )
    groups = _groups(finished)
    return LoadedSuites(groups, tuple(_missing(groups, unfinished)))


def _why_unfinished(folder: Path) -> str:
    if (folder / EVALUATION).exists():
        return f"its {EVALUATION} is not whole"
    failure = read_record(folder / FAILURE, Failure)
    if failure is None:
        return "not finished"
    return f"{'diverged' if failure.diverged else f'failed with exit {failure.exit_code}'}: {failure.message}"


# --- runs of several folders ----------------------------------------------------------------------


def _groups(finished: Mapping[Path, Mapping[Trial, LoadedRun]]) -> dict[tuple[str, str], Group]:
    """(task, label of the algorithm) -> its runs in all folders."""
    apart = _apart(finished)
    runs: dict[tuple[str, str], list[LoadedRun]] = defaultdict(list)
    for out, cells in finished.items():
        suffix = f" ({_folder_name(out, finished)})"
        for cell, run in cells.items():
            label = cell.algorithm + (suffix if cell.algorithm in apart else "")
            runs[cell.recipe, label].append(run)
    return {key: Group(tuple(sorted(members, key=lambda run: run.seed))) for key, members in runs.items()}


def _apart(finished: Mapping[Path, Mapping[Trial, LoadedRun]]) -> set[str]:
    """The algorithms whose runs in different folders are not to be put together."""
    algorithms = set()
    for one, other in combinations(finished.values(), 2):
        digests = {(cell.recipe, cell.algorithm): run.record.digest for cell, run in other.items()}
        for cell, run in one.items():
            digest = digests.get((cell.recipe, cell.algorithm), run.record.digest)
            if cell in other or digest != run.record.digest:
                algorithms.add(cell.algorithm)
    return algorithms


def _folder_name(out: Path, among: Iterable[Path]) -> str:
    """The folder's own name where that tells it from the others."""
    names = [other.resolve().name for other in among]
    return out.resolve().name if names.count(out.resolve().name) == 1 else str(out)


def _unlabelled(algorithm: str) -> str:
    """'fpo (old)' → 'fpo'."""
    return algorithm.partition(" (")[0]


# --- what is missing ------------------------------------------------------------------------------


def _missing(groups: Mapping[tuple[str, str], Group], unfinished: Mapping[Trial, str]) -> list[str]:
    """A sentence for every cell that has to be there for each algorithm to have the same seeds of each task."""
    algorithms = sorted({algorithm for _, algorithm in groups} | _lost(groups, unfinished))
    tasks = {task for task, _ in groups} | {cell.recipe for cell in unfinished}
    sentences = []
    for task in sorted(tasks):
        seeds_of = {
            name: {run.seed for run in groups[task, name].runs} if (task, name) in groups else set()
            for name in algorithms
        }
        seeds = set().union(*seeds_of.values(), {cell.seed for cell in unfinished if cell.recipe == task})
        for name in algorithms:
            for seed in sorted(seeds - seeds_of[name]):
                why = unfinished.get(Trial(task, _unlabelled(name), seed), "not there")
                sentences.append(f"{task} {name} seed {seed}: {why}")
    return sentences


def _lost(groups: Mapping[tuple[str, str], Group], unfinished: Iterable[Trial]) -> set[str]:
    """The algorithms of which no cell at all is finished."""
    return {cell.algorithm for cell in unfinished} - {_unlabelled(name) for _, name in groups}
