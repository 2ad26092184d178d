"""Trials that the workers of a cluster make: one job of SLURM or one task of Ray for each.

The engine finds the machine, starts the worker and says how it ended; all else is in the trial's folder. So a killed
driver attaches again by the same command, and a trial whose worker was killed or preempted goes to another one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flowrl.contracts.regular_files import read_bounded
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite import executor, plan, remote, worker
from flowrl.experiments.suite.executor import Report, RunningTrial
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.remote import RemoteTrial
from flowrl.experiments.suite.result import TrialResult, existing, failure_of
from flowrl.experiments.suite.trial import Trial, TrialRecord
from flowrl.experiments.suite.worker import SIGNALLED
from flowrl.storage import lock
from flowrl.storage.files import write_text

LOOK_S = 1.0  # between two looks at a job, and at the metrics of its trial
MOST_LOST = 5  # workers of a trial, one after the other, without any progress
KILLED = SIGNALLED + 9


@dataclass(frozen=True)
class Lost:
    """A job has ended without a result: its worker was killed, preempted or has not begun."""

    reason: str


class EngineJob(Protocol):
    """A job of the engine, which waits, runs or has ended."""

    id: str

    def outcome(self) -> dict[str, Any] | Lost | None:
        """Return what `TrialMaker` has returned, or that the worker was lost; None while the job waits or runs."""

    def cancel(self, *, kill: bool) -> None:
        """Ask the worker to save the trial and end, or kill it."""


class Engine(Protocol):
    """What this module asks of SLURM and of Ray."""

    name: str
    keeps_jobs: bool  # whether its jobs go on when this process ends

    def submit(self, trial: RemoteTrial) -> EngineJob:
        """Hand a trial over. Raises UsageError where the engine refuses it."""

    def find(self, job_id: str) -> EngineJob | None:
        """Return the job that an earlier process has submitted; None where it has ended."""

    def farewell(self, jobs: Sequence[str]) -> str:
        """Say how to look at the `jobs` that go on, and how to end them."""


class ClusterTrial:
    """A trial that a job of the engine makes, or will make."""

    def __init__(self, job: Job, submitted: EngineJob, beginning: str, owner: ClusterExecutor, report: Report) -> None:
        self.job = job
        self.submitted = submitted
        self.beginning = beginning
        self._owner = owner
        self._report = report
        self._begun = time.monotonic()
        self._next_look = 0.0
        self._share, self._share_at = 0.0, -LOOK_S

    @property
    def words(self) -> str:
        """How far it is, in words."""
        share = self.share
        return "submitted" if share == 0 else "evaluating" if share == 1 else f"{share:.0%}"

    @property
    def share(self) -> float:
        """The share of its environment steps that are done, in [0, 1]."""
        if time.monotonic() - self._share_at > LOOK_S:
            self._share, self._share_at = worker.trained_share(self.job), time.monotonic()
        return self._share

    @property
    def is_training(self) -> bool:
        """Whether its training runs, as far as its metrics say."""
        return 0 < self.share < 1

    @property
    def elapsed(self) -> float:
        """The seconds since it was submitted, or attached to."""
        return time.monotonic() - self._begun

    def duration(self, record: TrialRecord) -> float:
        """Return the seconds of its training: nobody here knows how long it waited for a machine."""
        return record.seconds

    def poll(self, *, stopping: bool) -> TrialResult | None:
        """Return the result; 'unfinished' when its worker was lost, None while the job waits or runs."""
        if stopping and self._owner.engine.keeps_jobs:
            return TrialResult(self.job.trial, "unfinished")
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + LOOK_S
        outcome = self.submitted.outcome()
        if outcome is None:
            return None
        note_of(self.job).unlink(missing_ok=True)
        if isinstance(outcome, Lost):
            lost, result = outcome.reason, TrialResult(self.job.trial, "unfinished")
        else:
            lost, result = "it was stopped" if outcome["stopped"] else "", remote.unpacked(self.job, outcome)
        if result.state == "unfinished" and lost and not stopping:
            self._owner.count_loss(self.job, lost, self._report)
        return result

    def interrupt(self, count: int) -> None:
        """Ask its worker to save the trial and end; kill it from the second call on (`count`)."""
        self.submitted.cancel(kill=count > 1)

    def end(self) -> None:
        """Leave it alone: it was asked to save itself, or goes on without this process."""


class ClusterExecutor:
    """Makes trials by jobs of an engine; the records say that `parallel` trials ran at the same time."""

    def __init__(self, engine: Engine, parallel: int) -> None:
        self.engine = engine
        self._parallel = parallel
        self._losses: dict[Trial, tuple[float, int, str]] = {}  # the share then, how many since, and why the last one

    def start(self, job: Job, report: Report) -> RunningTrial | TrialResult | None:
        """Submit a trial, or attach to the job that makes it; its result where nothing is left to do.

        None while a process that is no job of this engine has locked it. Raises UsageError and StorageError.
        """
        status = plan.status(job)
        if (known := existing(job, status)) is not None:
            return known
        if (failed := self._given_up(job)) is not None:
            return failed
        name = self.engine.name
        if (submitted := self._find(job)) is not None:
            return ClusterTrial(job, submitted, f"attached to {name} job {submitted.id}", self, report)
        if lock.file_is_locked(job.log) or lock.is_locked(job.folder):
            return None
        submitted = self.engine.submit(remote.packed(job, self._parallel))
        write_text(note_of(job), f"{name} {submitted.id}\n")
        return ClusterTrial(job, submitted, f"submitted to {name} as job {submitted.id}", self, report)

    def interrupt(self, running: Sequence[RunningTrial], stop: StopSignal, report: Report) -> None:
        """Pass a stop signal on to workers that would end with this process; leave others running, and say so."""
        if not self.engine.keeps_jobs:
            executor.pass_on(running, stop, report)
        elif running and stop.count == 1:
            ids = [trial.submitted.id for trial in running if isinstance(trial, ClusterTrial)]
            report(f"{self.engine.farewell(ids)} The same command attaches to them again.")

    def count_loss(self, job: Job, reason: str, report: Report) -> None:
        """Record that a trial has lost its worker."""
        share = worker.trained_share(job)
        before, count, _ = self._losses.get(job.trial, (0.0, 0, ""))
        self._losses[job.trial] = (share, 1 if share > before else count + 1, reason)
        report(f"{job.trial}: its worker was lost ({reason}); it goes to another one")

    def _given_up(self, job: Job) -> TrialResult | None:
        _, count, reason = self._losses.get(job.trial, (0.0, 0, ""))
        if count < MOST_LOST:
            return None
        text = f"{count} workers were lost one after the other, without any progress; the last one: {reason}"
        return TrialResult(job.trial, "failed", failure=failure_of(job, "train", KILLED, text))

    def _find(self, job: Job) -> EngineJob | None:
        """Return the job of an earlier process that makes the trial, or will make it."""
        with suppress(OSError, ValueError):
            name, job_id = read_bounded(note_of(job), 200).decode().split()
            return self.engine.find(job_id) if name == self.engine.name else None
        return None


def note_of(job: Job) -> Path:
    """Return the path of the file that names the job of the engine that makes a trial."""
    return job.folder.with_name(f"{job.folder.name}.job")
