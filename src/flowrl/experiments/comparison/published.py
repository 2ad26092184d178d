"""Runs beside published results for the same task: `flowrl compare RUN --published`.

The results are in published.yaml, each with the source that prints it. They were made with other budgets, simulators
and numbers of seeds; what differs is said beside the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict

from flowrl.config import yaml_reader
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.experiments.suite.trial import EVALUATION, MODES, TrialRecord, find_trials, noise_label, read_record
from flowrl.reporting import jsonl
from flowrl.storage import checkpoint

DATA = Path(__file__).with_name("published.yaml")
WINDOW = 20  # iterations at the end of a training, where a run has no evaluation


class PublishedSource(BaseModel):
    """Where results were published, and how they were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    url: str
    setting: str


class PublishedResult(BaseModel):
    """One figure of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    task: str  # the id of a task, or the name of a group of tasks
    published_as: str  # the name of the task in the source
    algorithm: str
    value: float
    spread: float | None
    env_steps: int


class PublishedResults(BaseModel):
    """All of published.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[str, list[str]]
    sources: dict[str, PublishedSource]
    results: list[PublishedResult]


@dataclass(frozen=True)
class OwnResult:
    """The runs of one algorithm on one task."""

    algorithm: str
    env: str
    value: float  # mean over the runs of their mean returns
    spread: float | None  # standard deviation over the runs; None for one
    runs: int
    env_steps: int  # the most of any run
    measured: str  # how the return of a run was measured


@dataclass(frozen=True)
class PublishedComparison:
    """A run's task, the runs and the published results."""

    env: str
    own: tuple[OwnResult, ...]
    published: tuple[PublishedResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of a task in the JSON document."""
        sources = {result.source: data().sources[result.source].model_dump() for result in self.published}
        return {
            "env": self.env,
            "runs": [asdict(result) for result in self.own],
            "published": [result.model_dump() for result in self.published],
            "sources": sources,
            "notes": self.notes(),
        }

    def rows(self) -> list[list[str]]:
        """Return the table: result, return, spread, env steps, source; runs first."""
        own = [
            [each.algorithm, f"{each.value:.1f}", _spread(each.spread), str(each.runs), f"{each.env_steps:,}", "flowrl"]
            for each in self.own
        ]
        theirs = [
            [self._label(each), f"{each.value:.1f}", _spread(each.spread), "", f"{each.env_steps:,}", each.source]
            for each in self.published
        ]
        return own + theirs

    def notes(self) -> list[str]:
        """Return in sentences what is not alike."""
        over = {True: "the spread is the standard deviation over its runs", False: "one run, hence no spread"}
        notes = [f"{each.algorithm} here: {each.measured}; {over[each.runs > 1]}." for each in self.own]
        for name in dict.fromkeys(result.source for result in self.published):
            source = data().sources[name]
            steps = sorted({result.env_steps for result in self.published if result.source == name})
            ratios = [count / max(1, max(each.env_steps for each in self.own)) for count in (steps[0], steps[-1])]
            notes.append(f"{name}: {source.title}, {source.url}. {_sentence(source.setting)} {_budget(ratios)}")
        own = {self.env, _bare(self.env)}
        versions = {each.published_as for each in self.published if each.task == self.env} - own
        return notes + [f"Published for {version}, which is not exactly {self.env}." for version in sorted(versions)]

    def _label(self, result: PublishedResult) -> str:
        """'FPO', or 'FPO, mean over ten tasks' for a figure that is not of this task alone."""
        return result.algorithm if result.task == self.env else f"{result.algorithm}, {result.published_as}"


@cache
def data() -> PublishedResults:
    """Read published.yaml."""
    return PublishedResults.model_validate(yaml_reader.parse(DATA.read_bytes(), DATA.name)[0])


def for_task(env: str) -> tuple[PublishedResult, ...]:
    """Return the published results for a task, those of groups that it belongs to included."""
    groups = {name for name, members in data().groups.items() if env in members}
    return tuple(result for result in data().results if result.task == env or result.task in groups)


def tasks() -> list[str]:
    """Return the ids of all tasks with published results."""
    members = [member for group in data().groups.values() for member in group]
    return sorted({*members, *(result.task for result in data().results if result.task not in data().groups)})


def compare(folders: Sequence[Path]) -> list[PublishedComparison]:
    """Set runs, or the trials of suites, beside published results for their tasks.

    Raises CheckpointError for a folder that is no run, and UsageError where nothing was published for a task.
    """
    runs: dict[str, dict[tuple[str, str], list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for env, algorithm, value, steps, measured in _runs(folder):
            runs[env][algorithm, measured].append((value, steps))
    comparisons = []
    for env, groups in sorted(runs.items()):
        if not (found := for_task(env)):
            raise UsageError(
                f"no published results for {env} are stored.{did_you_mean(env, tasks())} There are some for: "
                f"{', '.join(tasks())}."
            )
        own = tuple(_own(env, algorithm, measured, values) for (algorithm, measured), values in groups.items())
        comparisons.append(PublishedComparison(env, own, found))
    return comparisons


def _own(env: str, algorithm: str, measured: str, values: list[tuple[float, int]]) -> OwnResult:
    returns = [value for value, _ in values]
    spread = stdev(returns) if len(returns) > 1 else None
    return OwnResult(algorithm, env, fmean(returns), spread, len(returns), max(steps for _, steps in values), measured)


def _runs(folder: Path) -> Iterator[tuple[str, str, float, int, str]]:
    """Yield environment, algorithm, return, env steps and how it was measured, for a run or the trials of a suite."""
    trials = [found for _, found in find_trials(folder) if read_record(found / EVALUATION, TrialRecord)]
    for run in trials or [folder]:
        record = read_record(run / EVALUATION, TrialRecord)
        if record is not None:
            for mode in MODES:
                if mode in record.evaluations:
                    label = noise_label(mode, record.config)
                    value = record.evaluations[mode].return_mean
                    measured = f"mean return over {record.episodes} evaluation episodes, {label}{_held(record.config)}"
                    yield record.config["env"]["id"], f"{record.algorithm}, {label}", value, record.env_steps, measured
        else:
            yield _training(run)


def _training(run: Path) -> tuple[str, str, float, int, str]:
    """Return the same for a run without an evaluation: the returns at the end of its training."""
    content = checkpoint.load(checkpoint.find(run))
    config, progress = content["config"], content["progress"]
    lines = jsonl.read(jsonl.find(run if run.is_dir() else run.parent))[-WINDOW:]
    returns = [line["return_mean"] for line in lines if isinstance(line.get("return_mean"), int | float)]
    if not returns or not isfinite(fmean(returns)):
        raise UsageError(f"{run} has no returns yet: no episode has ended in its last {WINDOW} iterations.")
    measured = f"mean return of the last {len(returns)} iterations of training, with its exploration (no evaluation)"
    measured += _held(config)
    return config["env"]["id"], config["algorithm"], fmean(returns), progress["env_steps"], measured


def _held(config: Mapping[str, Any]) -> str:
    repeat = config["env"].get("action_repeat", 1)
    return f"; an env step is an action that is held for {repeat} control steps" if repeat > 1 else ""


def _spread(value: float | None) -> str:
    return "-" if value is None else f"± {value:.1f}"


def _bare(env: str) -> str:
    """'flowrl/CheetahRun-v0' -> 'CheetahRun'"""
    return env.rpartition("/")[2].rpartition("-v")[0]


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[0].upper()}{text[1:]}."


def _budget(ratios: list[float]) -> str:
    low, high = (f"{float(f'{ratio:.2g}'):,.{0 if ratio >= 10 else 2}f}" for ratio in ratios)
    times = low if low == high else f"{low} to {high}"
    return f"Its training was {times} times as long as the longest here, in env steps."
