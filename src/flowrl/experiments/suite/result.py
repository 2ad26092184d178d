"""The result of a cell: how it ended, and the record of that in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from flowrl import __version__
from flowrl.config import fingerprint
from flowrl.contracts.errors import BUG
from flowrl.evaluation.machine import machine
from flowrl.experiments.suite import trial
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.trial import EVALUATION, FAILURE, Failure, Trial, TrialRecord
from flowrl.experiments.suite.worker import Stage
from flowrl.reporting.console import duration
from flowrl.storage import checkpoint


@dataclass(frozen=True)
class TrialResult:
    """How a cell ended."""

    cell: Trial
    state: Literal["finished", "kept", "diverged", "failed", "unfinished"]
    record: TrialRecord | None = None
    failure: Failure | None = None

    def as_dict(self) -> dict[str, Any]:
        """The cell in the JSON document of `flowrl suite`."""
        return {
            **asdict(self.cell),
            "state": self.state,
            "returns": self.returns,
            "env_steps": self.record.env_steps if self.record else None,
            "seconds": self.record.seconds if self.record else None,
            "env_steps_per_s": self.record.env_steps_per_s if self.record else None,
            "exit_code": self.failure.exit_code if self.failure else None,
            "message": self.failure.message if self.failure else None,
        }

    @property
    def returns(self) -> dict[str, float]:
        """Noise mode -> mean return."""
        scores = self.record.evaluations if self.record else {}
        return {mode: score.return_mean for mode, score in scores.items()}

    def summary(self) -> str:
        """What came out, in a line."""
        if self.failure is not None:
            return f"{self.state} (exit {self.failure.exit_code}): {self.failure.message}"
        if self.record is None:
            return self.state
        returns = [
            f"{value:.4g} {trial.spelled(mode, self.record.config)}" for mode, value in self.returns.items()
        ]
        steps, seconds = self.record.env_steps, self.record.seconds
        return f"return {', '.join(returns)}; {steps:,} steps in {duration(seconds)}"


def conclude(stage: Stage, parallel: int) -> TrialResult:
    """What the last stage of a cell leaves behind, written down in the cell's folder.

    The stage has ended, and is an evaluation or has failed; `parallel` cells were run at the same time. Raises
    StorageError when the record cannot be written.
    """
    if stage.exit_code != 0:
        return _failed(stage, stage.last_words())
    job = stage.job
    try:
        scores = {score["noise"]: score for score in json.loads(stage.output())}
    except ValueError as error:
        return _failed(stage, f"its evaluation is no JSON document: {error} (see {job.log})")
    try:
        record = _record(job, scores, parallel)
    except ValidationError:
        return _failed(stage, "a mean return is not finite")
    trial.write(job.folder / EVALUATION, record)
    return TrialResult(job.cell, "finished", record)


def _record(job: Job, scores: dict[str, Any], parallel: int) -> TrialRecord:
    progress = checkpoint.load(job.folder / checkpoint.LATEST)["progress"]
    env_steps, seconds = progress["env_steps"], progress["seconds"]
    return TrialRecord(
        flowrl=__version__,
        recipe=job.source,
        algorithm=job.cell.algorithm,
        seed=job.cell.seed,
        digest=fingerprint.digest(job.config),
        config=job.config,
        env_steps=env_steps,
        seconds=seconds,
        env_steps_per_s=env_steps / seconds if seconds else None,
        jobs=parallel,
        machine=asdict(replace(machine(), threads=job.config["threads"])),
        episodes=job.episodes,
        evaluation_seed=job.evaluation_seed,
        evaluations=scores,
    )


def _failed(stage: Stage, message: str) -> TrialResult:
    job = stage.job
    failure = Failure(
        flowrl=__version__,
        stage=stage.name,
        exit_code=stage.exit_code or BUG,
        message=message,
        digest=fingerprint.digest(job.config),
        config=job.config,
    )
    trial.write(job.folder / FAILURE, failure)
    return TrialResult(job.cell, "diverged" if failure.diverged else "failed", failure=failure)
