"""Run the trials of a suite, several at a time, in processes of this machine or by a cluster."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite import executor as executors
from flowrl.experiments.suite import plan
from flowrl.experiments.suite.eta import DurationEstimator
from flowrl.experiments.suite.executor import Executor, Report, RetryTimes, RunningTrial
from flowrl.experiments.suite.local import DIVERGED, LocalExecutor
from flowrl.experiments.suite.plan import Job, Todo
from flowrl.experiments.suite.result import TrialResult, existing
from flowrl.experiments.suite.trial import Trial
from flowrl.experiments.suite.worker import SIGNALLED
from flowrl.reporting.numbers import duration

POLL_S = 0.1
WATCH_S = 1.0

TODO_LABELS: dict[Todo, str] = {
    "nothing": "done",
    "evaluate": "to evaluate",
    "resume": "to continue",
    "train": "to train",
}


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
    jobs: Sequence[Job],
    parallel: int,
    report: Report,
    watch: Callable[[SuiteProgress], None] | None = None,
    executor: Executor | None = None,
    patience_s: float | None = None,
) -> SuiteOutcome:
    """Run every trial that is not finished, `parallel` at a time, until all have ended or a signal stops the suite.

    `report` is called with a line when a trial starts or ends, `watch` once a second. Trials are made by `executor`,
    default: by processes of this machine. A trial that another process has locked is waited for, at most for
    `patience_s` seconds; it is unfinished then. Raises UsageError when a trial was made with other settings (nothing
    has started then) and StorageError when a record cannot be written.
    """
    statuses = [plan.status(job) for job in jobs]
    counts = Counter(status.todo for status in statuses)
    numbers = ", ".join(f"{counts[todo]} {words}" for todo, words in TODO_LABELS.items() if counts[todo])
    report(f"{len(jobs)} trials: {numbers}; {parallel} at a time")
    scheduler = _Scheduler(len(jobs), parallel, report, watch, executor or LocalExecutor(parallel), patience_s)
    for job, status in zip(jobs, statuses, strict=True):
        scheduler.add(job, existing(job, status))
    stopped_by = scheduler.run()
    return SuiteOutcome(
        [scheduler.results.get(job.trial, TrialResult(job.trial, "unfinished")) for job in jobs], stopped_by
    )


class _Scheduler:
    """Keeps `parallel` trials running while others are waiting."""

    def __init__(
        self,
        number: int,
        parallel: int,
        report: Report,
        watch: Callable[[SuiteProgress], None] | None,
        executor: Executor,
        patience_s: float | None,
    ) -> None:
        self.results: dict[Trial, TrialResult] = {}
        self._waiting: list[Job] = []
        self._running: dict[Trial, RunningTrial] = {}
        self._number = number
        self._parallel = parallel
        self._report = report
        self._watch = watch
        self._executor = executor
        self._patience_s = patience_s
        self._next_watch = 0.0
        self._durations = DurationEstimator()
        self._retries = RetryTimes()

    def add(self, job: Job, result: TrialResult | None) -> None:
        """Take over a result that exists already, or put the job at the end of the queue."""
        if result is None:
            job.folder.mkdir(parents=True, exist_ok=True)  # a comparison says that the trial is missing
            self._waiting.append(job)
            return
        self.results[job.trial] = result
        if result.state == "diverged":
            self._report(f"{job.trial}: diverged before and would diverge again; remove {job.folder} to try it again")

    def run(self) -> signal.Signals | None:
        """Run until no trial is left, or a signal has stopped all of them; returns that signal."""
        stopping = False  # the executor knows of the signal
        with StopSignal() as stop, closing(self):
            while self._running or (self._waiting and not stop.signal):
                for _ in range(stop.take()):
                    self._executor.interrupt(list(self._running.values()), stop, self._report)
                    stopping = True
                if not stop.signal:
                    self._start_waiting()
                for trial in list(self._running.values()):
                    self._advance(trial, stopping=stopping)
                self._show_progress()
                time.sleep(POLL_S)
        return stop.signal

    def _show_progress(self) -> None:
        if self._watch is None or time.monotonic() < self._next_watch:
            return
        self._next_watch = time.monotonic() + WATCH_S
        words = tuple(f"{trial} {running.words}" for trial, running in self._running.items())
        finished = len(self.results)
        done = finished + sum(running.share for running in self._running.values())
        self._watch(SuiteProgress(finished, done, self._number, words))

    def close(self) -> None:
        """Terminate all running trials: there are some only after an error in this process."""
        executors.end_all(list(self._running.values()))

    def _start_waiting(self) -> None:
        """Start waiting trials while there is room; a trial that another process has locked is tried again later."""
        for job in list(self._waiting):
            if len(self._running) >= self._parallel:
                return
            if not self._retries.is_due(job.trial):
                continue
            begun = self._executor.start(job, self._report)
            if begun is None:
                self._wait_for(job)
                continue
            self._waiting.remove(job)
            self._retries.forget(job.trial)
            if isinstance(begun, TrialResult):
                self.add(job, begun)
            else:
                self._running[job.trial] = begun
                self._report_progress(f"{job.trial}: {begun.beginning}")

    def _wait_for(self, job: Job) -> None:
        """Look at a locked trial again later, unless it has been locked for too long."""
        if self._retries.postpone(job.trial):
            self._report(f"{job.trial}: locked by another process (log: {job.log}); waiting")
        if self._patience_s is not None and self._retries.waited(job.trial) > self._patience_s:
            self._waiting.remove(job)

    def _advance(self, running: RunningTrial, *, stopping: bool) -> None:
        """Record the result of a trial that has ended; one that has lost its worker waits for another one."""
        result = running.poll(stopping=stopping)
        if result is None:
            return
        trial = running.job.trial
        del self._running[trial]
        if result.state == "unfinished":
            if not stopping:
                self._retries.postpone(trial)
                self._waiting.insert(0, running.job)
            return
        self.results[trial] = result
        if result.record is not None:
            self._durations.learn(trial, running.duration(result.record))
        self._report_progress(f"{trial}: {result.summary()}")

    def _report_progress(self, text: str) -> None:
        seconds = self._durations.remaining(
            [job.trial for job in self._waiting],
            [(trial, running.elapsed) for trial, running in self._running.items()],
            self._parallel,
        )
        left = f"; about {duration(seconds)} left" if seconds else ""
        self._report(f"[{len(self.results)}/{self._number}] {text}{left}")
