"""A matrix of training runs: every recipe with every algorithm and every seed, and how far each of them has come.

What is finished is kept, so that a matrix goes on after any interruption. `flowrl.experiments.suite.scheduler` does
the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from flowrl.config.fingerprint import differences
from flowrl.config.schema import Config
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.envs import factory
from flowrl.experiments import train
from flowrl.experiments.build import device_of
from flowrl.experiments.suite.trial import EVALUATION, FAILURE, MODES, Failure, Trial, TrialRecord
from flowrl.experiments.suite.trial import read as read_record
from flowrl.storage import checkpoint

EVALUATION_SEEDS = 10_000  # seed k is evaluated with this + k: the same episodes for every algorithm

Todo = Literal["nothing", "train", "resume", "evaluate"]


@dataclass(frozen=True)
class SuitePlan:
    """What is asked for."""

    recipes: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    steps: int | None = None  # None: each recipe's own
    overrides: tuple[str, ...] = ()  # key.path=value; they win over everything else
    episodes: int = 64


@dataclass(frozen=True)
class Job:
    """A cell, and all that is needed to make it."""

    cell: Trial
    folder: Path
    source: str  # the recipe as it was typed
    settings: tuple[str, ...]
    config: dict[str, Any]  # resolved
    episodes: int

    @property
    def evaluation_seed(self) -> int:
        return EVALUATION_SEEDS + self.cell.seed

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


# --- planning -------------------------------------------------------------------------------------


def plan(matrix: SuitePlan) -> list[Job]:
    """Every cell with its resolved configuration, all those of a seed before the next seed.

    What would end a cell's process at once is told here, before anything is trained: raises UsageError when a recipe
    does not fit one of the algorithms or an option is wrong, and what `flowrl.envs.factory.make` raises when an
    environment cannot be made.
    """
    _refuse_set_twice(matrix)
    names = _recipe_names(matrix.recipes)
    jobs = [
        _job(matrix, source, Trial(name, algorithm, seed))
        for seed in matrix.seeds
        for source, name in names.items()
        for algorithm in matrix.algorithms
    ]
    _try_out(jobs)
    return jobs


def _job(matrix: SuitePlan, source: str, cell: Trial) -> Job:
    steps = () if matrix.steps is None else (f"total_steps={matrix.steps}",)
    chosen = (f"algorithm={cell.algorithm}", f"seed={cell.seed}", *steps)
    alone = () if any(_sets_simulation_threads(each) for each in matrix.overrides) else ("env.threads=1",)
    settings = (*chosen, "threads=1", *matrix.overrides, *alone)  # else each takes every core
    config = train.plan(source, list(settings), None).config.model_dump(mode="json")
    return Job(cell, cell.folder(matrix.out), source, settings, config, matrix.episodes)


def _sets_simulation_threads(override: str) -> bool:
    key, _, value = (part.strip() for part in override.partition("="))
    return key == "env.threads" or (key == "env" and "threads:" in value)


def _try_out(jobs: Sequence[Job]) -> None:
    """Look for the device of every cell and make its environment once, those of equal settings together.

    What else a process makes of its configuration, the sampler above all, was made when that was resolved.
    """
    tried = []
    for job in jobs:
        config = Config.model_validate(job.config)
        parts = (config.device, config.env.model_copy(update={"count": 1}))
        if parts not in tried:
            tried.append(parts)
            device_of(config)
            factory.make(config.env, count=1).close()


def _refuse_set_twice(matrix: SuitePlan) -> None:
    """--set wins over all else, so that of a key with an option of its own would undo the matrix."""
    options = {"algorithm": "--algorithms", "seed": "--seeds"}
    if matrix.steps is not None:
        options["total_steps"] = "--steps"
    for override in matrix.overrides:
        key = override.partition("=")[0].strip()
        if key in options:
            raise UsageError(f"--set {override}: the cells of a suite get their {key} from {options[key]}.")


def _recipe_names(sources: Sequence[str]) -> dict[str, str]:
    """Recipe as typed -> what its folder is called."""
    names = {source: Path(source).name.removesuffix(".yaml") for source in sources}
    for name, count in Counter(names.values()).items():
        if count > 1:
            twins = " and ".join(source for source in names if names[source] == name)
            raise UsageError(f"{twins} would share the folder {name}: give one of the files another name.")
    return names


# --- what is there already ------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialStatus:
    """How far a cell has come, and what is to be done with it."""

    todo: Todo
    record: TrialRecord | None = None  # of a finished cell
    failure: Failure | None = None  # of a cell that diverged, and would again
    remark: str = ""  # worth telling


def standing(job: Job) -> TrialStatus:
    """What its folder says of a cell. Raises UsageError when it was made with other settings."""
    remark = ""
    record = read_record(job.folder / EVALUATION, TrialRecord)
    if record is not None:
        _refuse_other_settings(job, record.config)
        remark = _other_evaluation(job, record)
        if not remark:
            return TrialStatus("nothing", record)
    elif (job.folder / EVALUATION).exists():
        remark = f"its {EVALUATION} is not whole"
    failure = read_record(job.folder / FAILURE, Failure)
    if failure is not None and failure.diverged:
        _refuse_other_settings(job, failure.config)
        return TrialStatus("nothing", failure=failure)
    path = job.folder / checkpoint.LATEST
    if not path.is_file():
        if record is not None:
            raise UsageError(
                f"{job.cell}: {remark}, but there is no {path} any more. Ask for what is there, choose another --out, "
                f"or remove {job.folder} to make the cell anew."
            )
        return TrialStatus("train", remark=remark)
    try:
        content = checkpoint.load(path)
    except CheckpointError:
        return TrialStatus("resume", remark=remark)  # which fails for that reason, and tells it
    _refuse_other_settings(job, content["config"])
    trained = content["progress"]["env_steps"] >= job.config["total_steps"]
    return TrialStatus("evaluate" if trained else "resume", remark=remark)


def _refuse_other_settings(job: Job, there: Mapping[str, Any]) -> None:
    with suppress(ValidationError):  # a key that is newer than the run has its default there
        there = Config.model_validate(dict(there)).model_dump(mode="json")
    unequal = differences(there, job.config)
    if unequal:
        more = f", and {len(unequal) - 5} more" if len(unequal) > 5 else ""
        raise UsageError(
            f"{job.folder} was made with other settings: {'; '.join(unequal[:5])}{more}. Choose another --out, or "
            "remove that folder to make the cell anew."
        )


def _other_evaluation(job: Job, record: TrialRecord) -> str:
    """Why an evaluation is not the one that is asked for; '' when it is."""
    if missing := [mode for mode in MODES if mode not in record.evaluations]:
        return f"it was not evaluated with {' and '.join(missing)} noise"
    if record.episodes != job.episodes:
        return f"it was evaluated over {record.episodes} episodes, not {job.episodes}"
    if record.evaluation_seed != job.evaluation_seed:
        return f"it was evaluated with seed {record.evaluation_seed}, not {job.evaluation_seed}"
    return ""
