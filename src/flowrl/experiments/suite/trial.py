"""A cell of a matrix (one recipe, one algorithm, one seed): its folder, and what is recorded there.

`OUT/<recipe>/<algorithm>/seed<k>/` is a run folder as `flowrl train` writes it. Beside the run, evaluation.json
says that the cell is finished and how good it is, or failure.json why it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from flowrl.contracts.errors import TrainingDiverged
from flowrl.policies import noise_modes
from flowrl.storage.files import write_text

EVALUATION, FAILURE = "evaluation.json", "failure.json"
MODES = ("random", "zero")  # of the noise; for a Gaussian policy these are sampled and mean actions

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, order=True)
class Trial:
    """Which cell it is; the fields are the names of the folders."""

    recipe: str
    algorithm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} {self.algorithm} seed {self.seed}"

    def folder(self, out: Path) -> Path:
        return out / self.recipe / self.algorithm / f"seed{self.seed}"


class EvalSummary(BaseModel):
    """How one noise mode did: what `flowrl eval --json` says of it, the environment's own measures among it."""

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
        """What is known besides the return: the share of successes, and the environment's own measures."""
        told = {"success_rate": self.success_rate, **(self.model_extra or {})}
        return {name: float(value) for name, value in told.items() if value is not None}


class TrialRecord(BaseModel):
    """evaluation.json: a finished cell."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    flowrl: str
    recipe: str  # as it was typed
    algorithm: str
    seed: int
    digest: str  # of the settings that have a part in what is learned
    config: dict[str, Any]  # resolved
    env_steps: int
    seconds: float  # wall time of collecting and updating, over all sessions
    env_steps_per_s: float | None
    jobs: int  # cells that were run at the same time
    machine: dict[str, Any]
    episodes: int
    evaluation_seed: int
    evaluations: dict[str, EvalSummary]  # noise mode -> score


class Failure(BaseModel):
    """failure.json: a cell that ended without a result."""

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
        return self.exit_code == TrainingDiverged.exit_code


def read(path: Path, model: type[Model]) -> Model | None:
    """What a record file holds; None when there is none, or it is not whole."""
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write(path: Path, record: BaseModel) -> None:
    """Write a record file: at every instant it is there as a whole or not at all. Raises StorageError."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def find(out: Path) -> Iterator[tuple[Trial, Path]]:
    """Every cell that has a folder in `out`, finished or not, and that folder."""
    for folder in sorted(out.glob("*/*/seed*")):
        cell = named(folder)
        if cell is not None and folder.is_dir():
            yield cell, folder


def named(folder: Path) -> Trial | None:
    """The cell that a folder is called after, as `Trial.folder` does; None where it is no cell's."""
    number = re.fullmatch(r"seed(\d+)", folder.name)
    if number is None or len(folder.parts) < 3:
        return None
    return Trial(folder.parts[-3], folder.parts[-2], int(number[1]))


def spelled(mode: str, config: Mapping[str, Any]) -> str:
    """How a noise mode is called where the policy of `config` acts."""
    return noise_modes.NAMES.get(config.get("policy", {}).get("kind"), {}).get(mode, mode)
