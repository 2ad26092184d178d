"""The result of a trial: how it ended, and the record in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from flowrl import __version__
from flowrl.config import fingerprint
from flowrl.contracts.errors import BUG
from flowrl.evaluation.machine import machine
from flowrl.experiments.suite.plan import Job, TrialStatus
from flowrl.experiments.suite.trial import EVALUATION, FAILURE, Failure, Trial, TrialRecord, noise_label, write_record
from flowrl.experiments.suite.worker import WorkerProcess, WorkerStep
from flowrl.policies import noise_modes
from flowrl.reporting.numbers import duration
from flowrl.storage import checkpoint


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended."""

    trial: Trial
    state: Literal["finished", "kept", "diverged", "failed", "unfinished"]
    record: TrialRecord | None = None
    failure: Failure | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the trial's entry in the JSON document of `flowrl suite`."""
        return {
            **asdict(self.trial),
            "state": self.state,
            "returns": self.returns,
            **{key: getattr(self.record, key, None) for key in ("env_steps", "seconds", "env_steps_per_s")},
            **{key: getattr(self.failure, key, None) for key in ("exit_code", "message")},
        }

    @property
    def returns(self) -> dict[str, float]:
        """Noise mode -> mean return."""
        evaluations = self.record.evaluations if self.record else {}
        return {mode: evaluation.return_mean for mode, evaluation in evaluations.items()}

    def summary(self) -> str:
        """Describe the result in one line."""
        if self.failure is not None:
            return f"{self.state} (exit {self.failure.exit_code}): {self.failure.message}"
        if self.record is None:
            return self.state
        config = self.record.config
        returns = [f"{value:.4g} {noise_label(mode, config)}" for mode, value in self.returns.items()]
        steps, seconds = self.record.env_steps, self.record.seconds
        return f"return {', '.join(returns)}; {steps:,} steps in {duration(seconds)}"


def existing(job: Job, status: TrialStatus) -> TrialResult | None:
    """Return the result that a trial has already; None where something is left to do."""
    if status.todo != "nothing":
        return None
    if status.record is not None:
        return TrialResult(job.trial, "kept", status.record)
    return TrialResult(job.trial, "diverged", failure=status.failure)


def conclude(worker: WorkerProcess, parallel: int) -> TrialResult:
    """Write the result of a trial's last process to the trial's folder, and return it.

    The process has ended; it was an evaluation, or it failed. `parallel` trials ran at the same time. Raises
    StorageError when the record cannot be written.
    """
    if worker.exit_code != 0:
        return _failed(worker, worker.error_message())
    job = worker.job
    try:
        evaluations = {
            noise_modes.label(evaluation["noise"], evaluation["noise_scale"]): evaluation
            for evaluation in json.loads(worker.output())
        }
    except ValueError as error:
        return _failed(worker, f"its evaluation is not a JSON document: {error} (see {job.log})")
    try:
        record = _record(job, evaluations, parallel)
    except ValidationError as error:
        return _failed(worker, f"its evaluation cannot be recorded: {_unrecordable(error)} (see {job.log})")
    write_record(job.folder / EVALUATION, record)
    return TrialResult(job.trial, "finished", record)


def _unrecordable(error: ValidationError) -> str:
    """Return what of an evaluation does not fit a record: 'random return_mean is not finite'."""
    first = error.errors(include_url=False)[0]
    key = " ".join(str(step) for step in first["loc"] if step != "evaluations")
    return f"{key} is not finite" if first["input"] is None else f"{key}: {first['msg']}"


def _record(job: Job, evaluations: dict[str, Any], parallel: int) -> TrialRecord:
    progress = checkpoint.load(job.folder / checkpoint.LATEST)["progress"]
    env_steps, seconds = progress["env_steps"], progress["seconds"]
    return TrialRecord(
        flowrl=__version__,
        recipe=job.source,
        algorithm=job.trial.algorithm,
        seed=job.trial.seed,
        digest=fingerprint.digest(job.config),
        config=job.config,
        env_steps=env_steps,
        seconds=seconds,
        env_steps_per_s=env_steps / seconds if seconds else None,
        jobs=parallel,
        machine=asdict(replace(machine(), threads=job.config["threads"])),
        episodes=job.episodes,
        evaluation_seed=job.evaluation_seed,
        evaluations=evaluations,
    )


def _failed(worker: WorkerProcess, message: str) -> TrialResult:
    job = worker.job
    failure = failure_of(job, worker.step, worker.exit_code or BUG, message)
    write_record(job.folder / FAILURE, failure)
    return TrialResult(job.trial, "diverged" if failure.diverged else "failed", failure=failure)


def failure_of(job: Job, step: WorkerStep, exit_code: int, message: str) -> Failure:
    """Return the record of a trial that failed in a `step`."""
    return Failure(
        flowrl=__version__,
        stage=step,
        exit_code=exit_code,
        message=message,
        digest=fingerprint.digest(job.config),
        config=job.config,
    )
