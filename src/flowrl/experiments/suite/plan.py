"""Plan a suite: every recipe with every algorithm and every seed, and what is left to do for each trial.

Finished trials are kept, so that a suite continues after any interruption. `flowrl.experiments.suite.scheduler` runs
the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from flowrl.config import recipe
from flowrl.config.fingerprint import differences
from flowrl.config.schema import Config
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.envs import factory
from flowrl.experiments import train, warm_start
from flowrl.experiments.build import device_of
from flowrl.experiments.suite import grid
from flowrl.experiments.suite.grid import Cell
from flowrl.experiments.suite.trial import EVALUATION, FAILURE, Failure, Trial, TrialRecord, noises, read_record
from flowrl.storage import checkpoint

EVALUATION_SEEDS = 10_000  # seed k is evaluated with this + k: the same episodes for every algorithm

Todo = Literal["nothing", "train", "resume", "evaluate"]


@dataclass(frozen=True)
class SuiteOptions:
    """The options of `flowrl suite`."""

    recipes: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    steps: int | None = None  # None: each recipe's own
    overrides: tuple[str, ...] = ()  # key.path=value; they win over everything else
    episodes: int = 64
    imports: tuple[str, ...] = ()  # files and modules to import, besides those of each recipe
    grid: tuple[str, ...] = ()  # key.path=value,value,…


@dataclass(frozen=True)
class Job:
    """A trial and everything that its processes need."""

    trial: Trial
    folder: Path
    source: str  # the recipe as it was typed
    overrides: tuple[str, ...]  # key.path=value, those of the suite included
    config: dict[str, Any]  # resolved
    episodes: int
    recipe: Path | None = None  # a file with the resolved configuration, where the trial is trained from that

    @property
    def evaluation_seed(self) -> int:
        """The seed of the evaluation episodes: equal for all algorithms."""
        return EVALUATION_SEEDS + self.trial.seed

    @property
    def log(self) -> Path:
        """The log file of the trial's processes; the lock on it claims the trial."""
        return self.folder.with_name(f"{self.folder.name}.log")


# --- planning -------------------------------------------------------------------------------------


def make_jobs(plan: SuiteOptions, *, elsewhere: bool = False) -> list[Job]:
    """Resolve the configuration of every trial; all trials of one seed come before the next seed.

    Trials that are made `elsewhere` may use devices that this machine does not have.

    Errors that would end a trial's process at once are raised here, before anything is trained: UsageError when a
    recipe does not fit one of the algorithms or an option is wrong, and the errors of `flowrl.envs.factory.make` when
    an environment cannot be made.
    """
    _refuse_keys_with_options(plan)
    names = _recipe_names([name for source in plan.recipes for name in recipe.in_folder(source)])
    cells = grid.cells(plan.grid)
    jobs = [
        _job(plan, source, Trial(name, algorithm, seed, cell.name), cell)
        for seed in plan.seeds
        for source, name in names.items()
        for algorithm in plan.algorithms
        for cell in cells
    ]
    _check_devices_and_environments(jobs, elsewhere)
    return jobs


def _job(plan: SuiteOptions, source: str, trial: Trial, cell: Cell) -> Job:
    steps = () if plan.steps is None else (f"total_steps={plan.steps}",)
    overrides = (f"algorithm={trial.algorithm}", f"seed={trial.seed}", *steps, *plan.overrides, *cell.overrides)
    try:
        return job(source, trial, trial.folder(plan.out), overrides, plan.episodes, plan.imports)
    except UsageError as error:
        text = str(error)
        for override in cell.overrides:
            text = text.replace(f"--set {override}", f"--grid {override}")
        raise UsageError(text) from error


def job(
    source: str, trial: Trial, folder: Path, overrides: Sequence[str], episodes: int, imports: Sequence[str] = ()
) -> Job:
    """Resolve the configuration of a trial in `folder`: the recipe `source` with `overrides`, on one thread.

    `imports` are files and modules to import. Raises UsageError when they do not fit.
    """
    one_thread = () if any(map(_sets_simulation_threads, overrides)) else ("env.threads=1",)
    everything = ("threads=1", *overrides, *one_thread)  # otherwise each trial takes every core
    config = train.plan(source, list(everything), None, imports).config.model_dump(mode="json")
    return Job(trial, folder, source, everything, config, episodes)


def _sets_simulation_threads(override: str) -> bool:
    key, _, value = (part.strip() for part in override.partition("="))
    return key == "env.threads" or (key == "env" and "threads:" in value)


def _check_devices_and_environments(jobs: Sequence[Job], elsewhere: bool) -> None:
    """Check that every trial's device exists and its environment can be made, once for equal settings.

    The rest of a configuration, above all the sampler, was checked when it was resolved.
    """
    checked = []
    for job in jobs:
        config = Config.model_validate(job.config)
        parts = (config.device, config.init_from, config.env.model_copy(update={"count": 1}))
        if parts not in checked:
            checked.append(parts)
            if not elsewhere:
                device_of(config)
            env = factory.make(config.env, count=1)
            env.close()
            if (initial := warm_start.read(config)) is not None:
                warm_start.check_environment(initial, env)


def _refuse_keys_with_options(plan: SuiteOptions) -> None:
    """Raise UsageError where --set names a key that an option of `flowrl suite` sets."""
    options = {"algorithm": "--algorithms", "seed": "--seeds"}
    if plan.steps is not None:
        options["total_steps"] = "--steps"
    typed = [("--set", override) for override in plan.overrides] + [("--grid", values) for values in plan.grid]
    for option, text in typed:
        if (key := grid.key_of(text)) in options:
            raise UsageError(f"{option} {text}: the trials of a suite get their {key} from {options[key]}.")
    written = {grid.key_of(override) for override in plan.overrides}
    for values in plan.grid:
        if (key := grid.key_of(values)) in written:
            raise UsageError(f"--grid {values}: --set gives {key} a value for all trials. Leave one of them out.")


def _recipe_names(sources: Sequence[str]) -> dict[str, str]:
    """Map each recipe as typed to the name of its folder."""
    names = {source: Path(source).name.removesuffix(".yaml") for source in sources}
    for name, count in Counter(names.values()).items():
        if count > 1:
            twins = " and ".join(source for source in names if names[source] == name)
            raise UsageError(f"{twins} would share the folder {name}: give one of the files another name.")
    return names


# --- what is left to do ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialStatus:
    """How far a trial has come, and what is left to do."""

    todo: Todo
    record: TrialRecord | None = None  # of a finished trial
    failure: Failure | None = None  # of a trial that diverged, and would diverge again
    reason: str = ""  # why the evaluation that exists is not kept


def status(job: Job) -> TrialStatus:
    """Read from its folder how far a trial has come. Raises UsageError when it was made with other settings."""
    reason = ""
    record = read_record(job.folder / EVALUATION, TrialRecord)
    if record is not None:
        _refuse_other_settings(job, record.config)
        reason = _evaluation_mismatch(job, record)
        if not reason:
            return TrialStatus("nothing", record)
    elif (job.folder / EVALUATION).exists():
        reason = f"its {EVALUATION} is incomplete"
    failure = read_record(job.folder / FAILURE, Failure)
    if failure is not None and failure.diverged:
        _refuse_other_settings(job, failure.config)
        return TrialStatus("nothing", failure=failure)
    path = job.folder / checkpoint.LATEST
    if not path.is_file():
        if record is not None:
            raise UsageError(
                f"{job.trial}: {reason}, and its checkpoint {path} no longer exists. Repeat the command with the "
                f"options of the evaluation that exists, choose another --out, or remove {job.folder} to run the trial "
                "again."
            )
        return TrialStatus("train", reason=reason)
    try:
        content = checkpoint.load(path)
    except CheckpointError:
        return TrialStatus("resume", reason=reason)  # the resume fails for this reason, and reports it
    _refuse_other_settings(job, content["config"])
    trained = content["progress"]["env_steps"] >= job.config["total_steps"]
    return TrialStatus("evaluate" if trained else "resume", reason=reason)


def _refuse_other_settings(job: Job, recorded: Mapping[str, Any]) -> None:
    with suppress(ValidationError):  # a key that is newer than the run gets its default
        recorded = Config.model_validate(dict(recorded)).model_dump(mode="json")
    unequal = differences(recorded, job.config)
    if unequal:
        more = f", and {len(unequal) - 5} more" if len(unequal) > 5 else ""
        raise UsageError(
            f"{job.folder} was made with other settings: {'; '.join(unequal[:5])}{more}. Choose another --out, or "
            "remove that folder to run the trial again."
        )


def _evaluation_mismatch(job: Job, record: TrialRecord) -> str:
    """Explain why a recorded evaluation is not the one asked for; '' when it is."""
    if missing := [noise for noise in noises(job.config) if noise not in record.evaluations]:
        return f"it was not evaluated with {' and '.join(missing)} noise"
    if record.episodes != job.episodes:
        return f"it was evaluated over {record.episodes} episodes, not {job.episodes}"
    if record.evaluation_seed != job.evaluation_seed:
        return f"it was evaluated with seed {record.evaluation_seed}, not {job.evaluation_seed}"
    return ""
