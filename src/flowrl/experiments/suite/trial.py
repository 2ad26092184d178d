"""A trial of a suite (one recipe, one algorithm, one seed): its folder, and the records in it.

`OUT/<recipe>/<algorithm>/seed<k>/` is a run folder as `flowrl train` writes it. It also holds evaluation.json once
the trial has finished, with its returns, or failure.json with the reason why it has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from flowrl.contracts.errors import TrainingDiverged
from flowrl.policies import noise_modes
from flowrl.storage.files import read_bounded, write_text

EVALUATION, FAILURE = "evaluation.json", "failure.json"
MOST_BYTES = 10_000_000  # of a record
MODES = ("random", "zero")  # of the noise; for a Gaussian policy these are sampled and mean actions

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, order=True)
class Trial:
    """The identity of a trial; the fields name its folders."""

    recipe: str
    algorithm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} {self.algorithm} seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Return the trial's run folder inside the suite's folder `out`."""
        return out / self.recipe / self.algorithm / f"seed{self.seed}"


class EvalSummary(BaseModel):
    """Evaluation under one noise mode, as `flowrl eval --json` prints it, with the environment's own measures."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    return_mean: float
    return_stderr: float | None = None
    return_std: float | None = None
    return_ci95: list[float] | None = None
    return_iqm: float | None = None
    return_iqm_ci95: list[float] | None = None
    success_rate: float | None = None
    success_ci95: list[float] | None = None
    length_mean: float | None = None
    episodes: int | None = None
    sampler: str | None = None
    steps: int | None = None
    nfe: float | None = None
    noise: str | None = None
    action_us: float | None = None

    @property
    def measures(self) -> dict[str, float]:
        """Everything measured besides the return: the success rate and the environment's own measures."""
        values = {"success_rate": self.success_rate, **(self.model_extra or {})}
        return {name: float(value) for name, value in values.items() if value is not None}


class TrialRecord(BaseModel):
    """evaluation.json: the record of a finished trial."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    flowrl: str
    recipe: str  # as it was typed
    algorithm: str
    seed: int
    digest: str  # of the settings that influence what is learned
    config: dict[str, Any]  # resolved
    env_steps: int
    seconds: float  # wall time of collecting and updating, over all sessions
    env_steps_per_s: float | None
    jobs: int  # trials that ran at the same time
    machine: dict[str, Any]
    episodes: int
    evaluation_seed: int
    evaluations: dict[str, EvalSummary]  # by noise mode


class Failure(BaseModel):
    """failure.json: the record of a trial that ended without a result."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    flowrl: str
    stage: Literal["train", "evaluate"]
    exit_code: int  # of flowrl, or 128 + the number of the signal that ended it
    message: str
    digest: str
    config: dict[str, Any]

    @property
    def diverged(self) -> bool:
        """Whether the training diverged: it would diverge again."""
        return self.exit_code == TrainingDiverged.exit_code


def read_record(path: Path, model: type[Model]) -> Model | None:
    """Read a record file; None when it does not exist or is incomplete."""
    try:
        return model.model_validate_json(read_bounded(path, MOST_BYTES))
    except (OSError, ValueError):  # a ValidationError is a ValueError
        return None


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record file atomically: a reader finds it complete or not at all. Raises StorageError."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def find_trials(out: Path) -> Iterator[tuple[Trial, Path]]:
    """Yield every trial that has a folder in `out`, finished or not, with that folder."""
    for folder in sorted(out.glob("*/*/seed*")):
        trial = trial_of(folder)
        if trial is not None and folder.is_dir():
            yield trial, folder


def trial_of(folder: Path) -> Trial | None:
    """Return the trial that a folder is named after, as by `Trial.folder`; None for any other folder."""
    number = re.fullmatch(r"seed(\d+)", folder.name)
    if number is None or len(folder.parts) < 3:
        return None
    return Trial(folder.parts[-3], folder.parts[-2], int(number[1]))


def noise_label(mode: str, config: Mapping[str, Any]) -> str:
    """Name a noise mode for the policy of `config`: a Gaussian policy's actions are sampled, or their mean."""
    return noise_modes.NAMES.get(config.get("policy", {}).get("kind"), {}).get(mode, mode)
