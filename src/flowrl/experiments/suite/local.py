"""Trials that processes of this machine make: the step that a trial's folder asks for, and those after it.

The process that holds the lock on a trial's log file works on the trial. Its worker processes inherit that lock, so it
is held even after the suite itself was killed: the next suite waits for them. It also waits for a `flowrl train` that
somebody has started in the trial's folder, which has locked that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowrl.contracts.errors import TrainingDiverged
from flowrl.experiments import run_folder
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite import executor, plan, worker
from flowrl.experiments.suite.executor import Report, RunningTrial
from flowrl.experiments.suite.plan import Job, Todo
from flowrl.experiments.suite.result import TrialResult, conclude, existing
from flowrl.experiments.suite.trial import FAILURE, TrialRecord
from flowrl.experiments.suite.worker import WorkerProcess
from flowrl.storage import lock

DIVERGED = TrainingDiverged.exit_code
BEGINNINGS: dict[Todo, str] = {"train": "started", "resume": "continued", "evaluate": "evaluating"}


class LocalTrial:
    """A trial with a worker process: the training, then the evaluation."""

    def __init__(self, process: WorkerProcess, todo: Todo, parallel: int) -> None:
        self.job = process.job
        self.process = process
        self._todo = todo
        self._parallel = parallel
        self._started = time.monotonic()

    @property
    def beginning(self) -> str:
        """How it began, in words."""
        return BEGINNINGS[self._todo]

    @property
    def words(self) -> str:
        """How far it is, in words."""
        return "evaluating" if self.process.step == "evaluate" else f"{self.share:.0%}"

    @property
    def share(self) -> float:
        """The share of its environment steps that are done, in [0, 1]."""
        return self.process.share

    @property
    def is_training(self) -> bool:
        """Whether its training runs."""
        return self.process.step == "train"

    @property
    def elapsed(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self._started

    def duration(self, record: TrialRecord) -> float:
        """Return the seconds that the finished trial took from its first step on."""
        at_least = 0.0 if self._todo == "train" else record.seconds  # evaluations are not in it
        return max(self.elapsed, at_least)

    def poll(self, *, stopping: bool) -> TrialResult | None:
        """Start the evaluation after the training, and return the result after that; None while a process runs."""
        if not self.process.ended:
            return None
        code = self.process.exit_code
        trained = code == 0 and self.process.step == "train"
        if stopping and (trained or code not in (0, DIVERGED)):  # the next suite continues from its checkpoint
            result = TrialResult(self.job.trial, "unfinished")
        elif trained:
            self.process = worker.evaluate(self.job, self.process.log)
            return None
        else:
            result = conclude(self.process, self._parallel)
        self.process.close()
        return result

    def interrupt(self, count: int) -> None:
        """Ask its process to stop, which lets a training save itself; kill it from the second call on (`count`)."""
        self.process.interrupt(count)

    def end(self) -> None:
        """Terminate its process and wait for it."""
        self.process.interrupt(1)
        self.process.process.wait()
        self.process.close()


class LocalExecutor:
    """Makes trials in processes of this machine; the records say that `parallel` trials ran at the same time."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel

    def start(self, job: Job, report: Report) -> LocalTrial | TrialResult | None:
        """Start what is left to do for a trial; its result where that is nothing, None while another process has it."""
        log = None if lock.is_locked(job.folder) else lock.lock_file(job.log)
        if log is None:
            return None
        status = plan.status(job)  # another process may have worked on the trial meanwhile
        if (known := existing(job, status)) is not None:
            log.close()
            return known
        if status.reason:
            report(f"{job.trial}: {status.reason}; repeating the evaluation")
        if status.todo == "train":
            run_folder.remove(job.folder, run_folder.OF_A_TRIAL)
        (job.folder / FAILURE).unlink(missing_ok=True)
        if status.todo == "evaluate":
            process = worker.evaluate(job, log)
        else:
            process = worker.train(job, log, resume=status.todo == "resume")
        return LocalTrial(process, status.todo, self._parallel)

    def interrupt(self, running: Sequence[RunningTrial], stop: StopSignal, report: Report) -> None:
        """Pass a stop signal on to the processes of the `running` trials."""
        executor.pass_on(running, stop, report)
