"""Run the trials of a suite, several worker processes at a time.

The process that holds the lock on a trial's log file works on the trial. Worker processes inherit that lock, so it is
held even after the suite itself was killed: the next suite waits for them. It also waits for a `flowrl train` that
somebody has started in the trial's folder, which has locked that.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from flowrl.contracts.errors import TrainingDiverged
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite import plan, worker
from flowrl.experiments.suite.eta import DurationEstimator
from flowrl.experiments.suite.plan import Job, Todo, TrialStatus
from flowrl.experiments.suite.result import TrialResult, conclude
from flowrl.experiments.suite.trial import FAILURE, Trial
from flowrl.experiments.suite.worker import SIGNALLED, WorkerProcess
from flowrl.reporting.numbers import duration
from flowrl.storage import lock as run_lock

POLL_S = 0.1
WATCH_S = 1.0
FILES_OF_A_RUN = ("config.yaml", "metrics.jsonl", "events.out.tfevents.*", "*.pt", ".*.tmp", "*.json")
DIVERGED = TrainingDiverged.exit_code

TODO_LABELS: dict[Todo, str] = {
    "nothing": "done",
    "evaluate": "to evaluate",
    "resume": "to continue",
    "train": "to train",
}
STARTED: dict[Todo, str] = {"train": "started", "resume": "continued", "evaluate": "evaluating"}

Report = Callable[[str], None]


@dataclass(frozen=True)
class SuiteOutcome:
    """How a suite ended."""

    results: list[TrialResult]  # in the order of the plan
    signal: signal.Signals | None  # that stopped it

    @property
    def exit_code(self) -> int:
        """130 or the like after a signal, the code of divergence if any trial diverged, else the first failure's."""
        if self.signal is not None:
            return SIGNALLED + self.signal.value
        codes = [result.failure.exit_code for result in self.results if result.failure]
        return DIVERGED if DIVERGED in codes else next(iter(codes), 0)

    def count(self, *states: str) -> int:
        """Count the trials that ended in one of `states`."""
        return sum(result.state in states for result in self.results)


@dataclass(frozen=True)
class SuiteProgress:
    """How far a suite is, at one moment."""

    finished: int  # trials
    done: float  # trials, the running ones by their share of the steps
    number: int  # of trials
    running: tuple[str, ...]  # 'cheetah fpo seed 0 45%', 'cheetah fpo seed 0 evaluating'


def run(
    jobs: Sequence[Job], parallel: int, report: Report, watch: Callable[[SuiteProgress], None] | None = None
) -> SuiteOutcome:
    """Run every trial that is not finished, `parallel` at a time, until all have ended or a signal stops the suite.

    `report` is called with a line when a trial starts or ends, `watch` once a second. Raises UsageError when a trial
    was made with other settings (nothing has started then) and StorageError when a record cannot be written.
    """
    statuses = [plan.status(job) for job in jobs]
    counts = Counter(status.todo for status in statuses)
    numbers = ", ".join(f"{counts[todo]} {words}" for todo, words in TODO_LABELS.items() if counts[todo])
    report(f"{len(jobs)} trials: {numbers}; {parallel} at a time")
    scheduler = _Scheduler(len(jobs), parallel, report, watch)
    for job, status in zip(jobs, statuses, strict=True):
        scheduler.add(job, status)
    stopped_by = scheduler.run()
    return SuiteOutcome(
        [scheduler.results.get(job.trial, TrialResult(job.trial, "unfinished")) for job in jobs], stopped_by
    )


@dataclass(frozen=True)
class _RunningTrial:
    """A trial with a worker process."""

    worker: WorkerProcess
    from_start: bool  # trained from the beginning, not continued
    started: float  # seconds of the monotonic clock

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started


class _Scheduler:
    """Keeps `parallel` worker processes running while trials are waiting."""

    def __init__(
        self, number: int, parallel: int, report: Report, watch: Callable[[SuiteProgress], None] | None
    ) -> None:
        self.results: dict[Trial, TrialResult] = {}
        self._waiting: list[Job] = []
        self._running: dict[Trial, _RunningTrial] = {}
        self._number = number
        self._parallel = parallel
        self._report = report
        self._watch = watch
        self._next_watch = 0.0
        self._durations = DurationEstimator()
        self._reported_locked: set[Trial] = set()

    def add(self, job: Job, status: TrialStatus) -> None:
        """Take over a result that exists already, or put the job at the end of the queue."""
        if status.record is not None and status.todo == "nothing":
            self.results[job.trial] = TrialResult(job.trial, "kept", status.record)
        elif status.failure is not None and status.todo == "nothing":
            self.results[job.trial] = TrialResult(job.trial, "diverged", failure=status.failure)
            self._report(f"{job.trial}: diverged before and would diverge again; remove {job.folder} to try it again")
        else:
            job.folder.mkdir(parents=True, exist_ok=True)  # a comparison says that the trial is missing
            self._waiting.append(job)

    def run(self) -> signal.Signals | None:
        """Run until no trial is left, or a signal has stopped all of them; returns that signal."""
        with StopSignal() as stop, closing(self):
            while self._running or (self._waiting and not stop.signal):
                for _ in range(stop.take()):
                    self._interrupt(stop)
                if not stop.signal:
                    self._start_waiting()
                self._advance_ended(stopping=stop.signal is not None)
                self._show_progress()
                time.sleep(POLL_S)
        return stop.signal

    def _show_progress(self) -> None:
        if self._watch is None or time.monotonic() < self._next_watch:
            return
        self._next_watch = time.monotonic() + WATCH_S
        workers = {trial: running.worker for trial, running in self._running.items()}
        shares = {trial: worker.share for trial, worker in workers.items()}
        words = tuple(
            f"{trial} {'evaluating' if workers[trial].step == 'evaluate' else f'{share:.0%}'}"
            for trial, share in shares.items()
        )
        finished = len(self.results)
        self._watch(SuiteProgress(finished, finished + sum(shares.values()), self._number, words))

    def close(self) -> None:
        """Terminate all child processes: there are some only after an error in this process."""
        worker.terminate_all([running.worker for running in self._running.values()])

    def _interrupt(self, stop: StopSignal) -> None:
        workers = [running.worker for running in self._running.values()]
        worker.interrupt_all(workers, stop, len(workers), self._report)

    def _start_waiting(self) -> None:
        """Start waiting trials while there is room; a trial that another process has locked is tried again later."""
        for job in list(self._waiting):
            if len(self._running) >= self._parallel:
                return
            log = None if run_lock.is_locked(job.folder) else lock(job.log)
            if log is not None:
                self._waiting.remove(job)
                self._reported_locked.discard(job.trial)
                self._start(job, log)
            elif job.trial not in self._reported_locked:
                self._reported_locked.add(job.trial)
                self._report(f"{job.trial}: locked by another process (log: {job.log}); waiting")

    def _start(self, job: Job, log: BinaryIO) -> None:
        status = plan.status(job)  # read again: another process may have worked on the trial meanwhile
        todo = status.todo
        if todo == "nothing":
            log.close()
            self.add(job, status)
            return
        if status.reason:
            self._report(f"{job.trial}: {status.reason}; repeating the evaluation")
        if todo == "train":
            remove_unsaved_run(job.folder)
        (job.folder / FAILURE).unlink(missing_ok=True)
        started = time.monotonic()
        evaluate = todo == "evaluate"
        process = worker.evaluate(job, log) if evaluate else worker.train(job, log, resume=todo == "resume")
        self._running[job.trial] = _RunningTrial(process, todo == "train", started)
        self._report_progress(f"{job.trial}: {STARTED[todo]}")

    def _advance_ended(self, *, stopping: bool) -> None:
        for running in list(self._running.values()):
            if running.worker.ended:
                self._advance(running, stopping=stopping)

    def _advance(self, running: _RunningTrial, *, stopping: bool) -> None:
        """The worker process of `running` has ended: start the evaluation, or record the result."""
        job, code = running.worker.job, running.worker.exit_code
        trained = code == 0 and running.worker.step == "train"
        if stopping and (trained or code not in (0, DIVERGED)):  # the next suite continues from its checkpoint
            self._remove(running)
        elif trained:
            self._running[job.trial] = replace(running, worker=worker.evaluate(job, running.worker.log))
        else:
            result = conclude(running.worker, self._parallel)
            self._remove(running)
            self.results[job.trial] = result
            if result.record is not None:
                at_least = 0.0 if running.from_start else result.record.seconds  # evaluations are not in it
                self._durations.learn(job.trial, max(running.elapsed, at_least))
            self._report_progress(f"{job.trial}: {result.summary()}")

    def _remove(self, running: _RunningTrial) -> None:
        del self._running[running.worker.job.trial]
        running.worker.close()

    def _report_progress(self, text: str) -> None:
        seconds = self._durations.remaining(
            [job.trial for job in self._waiting],
            [(trial, running.elapsed) for trial, running in self._running.items()],
            self._parallel,
        )
        left = f"; about {duration(seconds)} left" if seconds else ""
        self._report(f"[{len(self.results)}/{self._number}] {text}{left}")


def lock(log: Path) -> BinaryIO | None:
    """Open the log file for appending and lock it; None when another process holds the lock."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab")
    if run_lock.try_lock(file) is False:  # None: on a file system without locks other processes cannot be noticed
        file.close()
        return None
    return file


def remove_unsaved_run(folder: Path) -> None:
    """Remove the files of a run that was killed before it first saved."""
    for pattern in FILES_OF_A_RUN:
        for path in folder.glob(pattern):
            path.unlink()
