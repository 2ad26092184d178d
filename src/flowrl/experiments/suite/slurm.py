"""SLURM as the engine of a suite, by submitit; or submitit's local executor, which stands in for it on one machine."""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.contracts.installing import reinstall
from flowrl.experiments.suite.cluster import Lost
from flowrl.experiments.suite.remote import RemoteTrial, TrialMaker

FOLDER = ".submitit"  # in --out: the pickled calls and results, and the output of the jobs
QUEUE_S = 10.0  # between two looks at the queue
GRACE_S = 20.0  # that the result of a job may need to be seen on a network drive
MOST_TIMEOUTS = 10_000
LOCAL = "local"


@dataclass(frozen=True)
class SlurmOptions:
    """The options of `--on slurm:…`."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 60  # a job that reaches it saves its trial, and is requeued
    mem_gb: float | None = None
    cluster: str = "slurm"  # or 'local': processes of this machine

    def parameters(self) -> dict[str, Any]:
        """Return them as submitit names them."""
        own = {f"slurm_{name}": getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        return {name: value for name, value in own.items() if value is not None} | {
            "timeout_min": self.timeout_min,
            **({} if self.mem_gb is None else {"mem_gb": self.mem_gb}),
        }


class SubmititJob:
    """A job of submitit."""

    def __init__(self, job: Any, queue: SlurmQueue | None) -> None:
        self.id: str = job.job_id
        self._job = job
        self._queue = queue  # None for a process of this machine
        self._gone_at: float | None = None

    def outcome(self) -> dict[str, Any] | Lost | None:
        """Return what the call has returned, or that its worker was lost; None while the job waits or runs."""
        if self._job.paths.result_pickle.exists():
            try:
                return self._job.result()
            except Exception as error:  # what the call has raised, as submitit describes it
                return Lost(" ".join(str(error).split())[-300:])
        if self._runs():
            self._gone_at = None
            return None
        self._gone_at = self._gone_at or time.monotonic()
        if self._queue is not None and time.monotonic() - self._gone_at < GRACE_S:
            return None
        return Lost(f"job {self.id} ended without a result; its output: {self._job.paths.stderr}")

    def cancel(self, *, kill: bool) -> None:
        """Ask the worker to save the trial and end; SLURM kills it after its own KillWait."""
        with suppress(OSError, subprocess.SubprocessError):
            self._job.cancel(check=False)

    def _runs(self) -> bool:
        if self._queue is None:
            return not self._job.done()
        queued = self._queue.ids()
        return queued is None or self.id in queued


@dataclass
class SlurmQueue:
    """The ids of this user's jobs that wait or run, read again after a while: one question for all jobs."""

    _ids: set[str] | None = None
    _read_at: float = field(default=float("-inf"))

    def ids(self) -> set[str] | None:
        """Return them; None where SLURM does not answer."""
        if time.monotonic() - self._read_at > QUEUE_S:
            self._read_at = time.monotonic()
            words = ["squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}"]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
                self._ids = set(done.stdout.split())
            except (OSError, subprocess.SubprocessError):
                self._ids = None
        return self._ids


class SlurmEngine:
    """Submits trials to SLURM from a login node; files of submitit are in the folder `.submitit` of `out`.

    Raises MissingDependency without submitit, UsageError where there is no SLURM.
    """

    keeps_jobs = True

    def __init__(self, options: SlurmOptions, out: Path) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"--on slurm needs the package submitit, which is not installed. Type: {reinstall('slurm')}"
            ) from error
        self._submitit = submitit
        self._options = options
        self._is_local = options.cluster == LOCAL
        self.name = "submitit-local" if self._is_local else "SLURM"
        self._folder = (out / FOLDER).absolute()
        self._queue = None if self._is_local else SlurmQueue()
        self._job_name = f"flowrl-{out.absolute().name}"
        try:
            self._executor = submitit.AutoExecutor(
                self._folder, cluster=options.cluster, **{f"{options.cluster}_max_num_timeout": MOST_TIMEOUTS}
            )
        except RuntimeError as error:
            raise UsageError(
                "--on slurm: the command srun was not found, so this is no machine of a SLURM cluster. Type the "
                "command on its login node, or --on slurm:cluster=local to try it in processes of this machine."
            ) from error

    def submit(self, trial: RemoteTrial) -> SubmititJob:
        """Submit a trial as one job. Raises UsageError where sbatch refuses it."""
        parameters = self._options.parameters() | {"name": self._job_name, "cpus_per_task": trial.cpus}
        if trial.gpus:
            parameters["gpus_per_node"] = trial.gpus
        self._executor.update_parameters(**parameters)
        try:
            return SubmititJob(self._executor.submit(TrialMaker(), trial), self._queue)
        except self._submitit.core.utils.FailedJobError as error:
            raise UsageError(f"--on slurm: sbatch refused the job: {' '.join(str(error).split())[-400:]}") from error

    def find(self, job_id: str) -> SubmititJob | None:
        """Return a job of an earlier process that waits or runs. Processes of this machine are known by their locks."""
        if self._queue is None or job_id not in (self._queue.ids() or ()):
            return None
        return SubmititJob(self._submitit.SlurmJob(self._folder, job_id), self._queue)

    def farewell(self, jobs: Sequence[str]) -> str:
        """Say how to look at the `jobs` that go on, and how to end them."""
        if self._is_local:
            return f"{len(jobs)} processes are left running: kill {' '.join(jobs)} lets them save and ends them."
        name = f"--name={self._job_name}"
        return f"{len(jobs)} SLURM jobs are left running: squeue {name} lists them, scancel {name} ends them."
