"""A trial of a suite (one recipe, one algorithm, one seed, one cell of a grid): its folder, and the records in it.

`OUT/<recipe>/<algorithm>/seed<k>/`, with a grid `OUT/<recipe>/<algorithm>,clip=0.1/seed<k>/`, is a run folder as
`flowrl train` writes it. It also holds evaluation.json once the trial has finished, with its returns, or failure.json
with the reason why it has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flowrl.contracts.errors import TrainingDiverged
from flowrl.contracts.regular_files import read_bounded
from flowrl.policies import noise_modes
from flowrl.storage.files import write_text

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
    cell: str = ""  # of a grid: 'learning_rate=0.001,clip=0.1'

    def __str__(self) -> str:
        return f"{self.recipe} {self.label} seed {self.seed}"

    @property
    def label(self) -> str:
        """The algorithm, followed by the cell of a grid: 'fpo,learning_rate=0.001'."""
        return f"{self.algorithm},{self.cell}" if self.cell else self.algorithm

    def folder(self, out: Path) -> Path:
        """Return the trial's run folder inside the suite's folder `out`."""
        return out / self.recipe / self.label / f"seed{self.seed}"


Number = Annotated[float, Field(ge=-1e100, le=1e100)]  # whose sums are finite
Interval = list[Number | None]  # [low, high]; [None, None] without a spread, as of one episode
Count = Annotated[int, Field(ge=0, le=2**62)]


class RecordedEnv(BaseModel):
    """What a comparison reads of the block `env` of a trial's configuration, which another version may have written."""

    id: str
    options: dict[str, Any]
    action_repeat: Count = 1


class RecordedPolicy(BaseModel):
    """What a comparison reads of the block `policy`."""

    kind: str = ""


class RecordedConfig(BaseModel):
    """What a comparison reads of a trial's configuration."""

    env: RecordedEnv
    policy: RecordedPolicy = RecordedPolicy()


def _readable(config: dict[str, Any]) -> dict[str, Any]:
    RecordedConfig.model_validate(config)
    return config


class EvalSummary(BaseModel):
    """Evaluation under one noise mode, as `flowrl eval --json` prints it, with the environment's own measures."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Number | None] = Field(init=False)

    return_mean: Number
    return_stderr: Number | None = None
    return_std: Number | None = None
    return_ci95: Interval | None = None
    return_iqm: Number | None = None
    return_iqm_ci95: Interval | None = None
    success_rate: Number | None = None
    success_ci95: Interval | None = None
    length_mean: Number | None = None
    episodes: Count | None = None
    sampler: str | None = None
    steps: Count | None = None
    nfe: Number | None = None
    noise: str | None = None
    noise_scale: Number | None = None  # None: from before there were scales
    perturbation: Number = 0.0
    action_us: Number | None = None

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
    seed: Count
    digest: str  # of the settings that influence what is learned
    config: Annotated[dict[str, Any], AfterValidator(_readable)]  # resolved
    env_steps: Count
    seconds: Number  # wall time of collecting and updating, over all sessions
    env_steps_per_s: Number | None
    jobs: Count  # trials that ran at the same time
    machine: dict[str, Any]
    episodes: Count
    evaluation_seed: Count
    evaluations: dict[str, EvalSummary]  # by noise mode, or by a scale and a mode such as '0.5 random'


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
    algorithm, _, cell = folder.parts[-2].partition(",")
    return Trial(folder.parts[-3], algorithm, int(number[1]), cell)


def noise_scales(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the scales of random noise that a trial of the resolved `config` is evaluated with: 1 and 0, and
    `noise_scale` where that is another one."""
    own = config.get("noise_scale", 1.0) if config.get("noise") == "random" else 1.0
    return tuple(dict.fromkeys((1.0, 0.0, float(own))))


def noises(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the noises of `noise_scales`: `MODES`, and one such as '0.5 random'."""
    return tuple(noise_modes.label("random", scale) for scale in noise_scales(config))


def noise_label(mode: str, config: Mapping[str, Any]) -> str:
    """Name a noise mode for the policy of `config`: a Gaussian policy's actions are sampled, or their mean."""
    *scale, name = mode.split()
    return " ".join((*scale, noise_modes.NAMES.get(config.get("policy", {}).get("kind"), {}).get(name, name)))
