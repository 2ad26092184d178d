"""The pool of processes that makes the cells of a matrix, some at a time.

A cell is worked on by who holds the lock on its log file. The processes that train it inherit that lock, and keep
it should this one be killed: whoever comes next waits for them.
"""

from __future__ import annotations

import fcntl
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
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
from flowrl.experiments.suite.worker import SIGNALLED, Stage
from flowrl.reporting.console import duration

POLL_S = 0.1
LEFT_BY_A_RUN = ("config.yaml", "metrics.jsonl", "events.out.tfevents.*", "*.pt", ".*.tmp", "*.json")
DIVERGED = TrainingDiverged.exit_code

AHEAD: dict[Todo, str] = {
    "nothing": "done",
    "evaluate": "to evaluate",
    "resume": "to continue",
    "train": "to train",
}
BEGUN: dict[Todo, str] = {"train": "started", "resume": "continued", "evaluate": "evaluated"}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SuiteOutcome:
    """How a matrix ended."""

    results: list[TrialResult]  # in the order of the plan
    signal: signal.Signals | None  # that stopped it

    @property
    def exit_code(self) -> int:
        """130 or the like after a signal, that of divergence if any cell diverged, else that of the first failure."""
        if self.signal is not None:
            return SIGNALLED + self.signal.value
        codes = [result.failure.exit_code for result in self.results if result.failure]
        return DIVERGED if DIVERGED in codes else next(iter(codes), 0)

    def count(self, *states: str) -> int:
        return sum(result.state in states for result in self.results)


def run(jobs: Sequence[Job], parallel: int, tell: Tell) -> SuiteOutcome:
    """Make every cell that is not finished, `parallel` at a time, until done or told to stop by a signal.

    `tell` hears a line whenever a cell starts or ends. Raises UsageError when a cell was made with other
    settings (nothing is started then) and StorageError when a record cannot be written.
    """
    standings = [plan.standing(job) for job in jobs]
    counts = Counter(standing.todo for standing in standings)
    numbers = ", ".join(f"{counts[todo]} {words}" for todo, words in AHEAD.items() if counts[todo])
    tell(f"{len(jobs)} cells: {numbers}; {parallel} at a time")
    runner = _Runner(len(jobs), parallel, tell)
    for job, standing in zip(jobs, standings, strict=True):
        runner.take(job, standing)
    stopped_by = runner.run()
    return SuiteOutcome(
        [runner.results.get(job.cell, TrialResult(job.cell, "unfinished")) for job in jobs], stopped_by
    )


@dataclass(frozen=True)
class _Activity:
    """A cell that is being worked on."""

    job: Job
    log: BinaryIO  # locked until `close`
    whole: bool  # from the beginning
    began: float  # seconds of the monotonic clock
    stage: Stage  # the one that runs

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def close(self) -> None:
        """Let go of the cell."""
        self.stage.close()
        self.log.close()


class _Runner:
    """Keeps `parallel` cells going."""

    def __init__(self, number: int, parallel: int, tell: Tell) -> None:
        self.results: dict[Trial, TrialResult] = {}
        self._waiting: list[Job] = []
        self._running: dict[Trial, _Activity] = {}
        self._number = number
        self._parallel = parallel
        self._tell = tell
        self._pace = DurationEstimator()
        self._held: set[Trial] = set()  # by other processes, as was told

    def take(self, job: Job, standing: TrialStatus) -> None:
        """Keep what is done already, or put the job at the end of the queue."""
        if standing.record is not None and standing.todo == "nothing":
            self._pace.learn(job.cell, standing.record.seconds)
            self.results[job.cell] = TrialResult(job.cell, "kept", standing.record)
        elif standing.failure is not None and standing.todo == "nothing":
            self.results[job.cell] = TrialResult(job.cell, "diverged", failure=standing.failure)
            self._tell(
                f"{job.cell}: diverged before, as it would again; remove {job.folder} to try all the same"
            )
        else:
            self._waiting.append(job)

    def run(self) -> signal.Signals | None:
        """Until nothing is left, or a signal came and everything has stopped; gives that signal."""
        with StopSignal(None, signal.SIGTERM, signal.SIGHUP) as stop:
            try:
                while self._running or (self._waiting and not stop.signal):
                    for _ in range(stop.take()):
                        self._interrupt(stop)
                    if not stop.signal:
                        self._fill()
                    for activity in list(self._running.values()):
                        if activity.stage.ended:
                            self._advance(activity, stopping=stop.signal is not None)
                    time.sleep(POLL_S)
            finally:
                for activity in self._running.values():  # after an error of ours: leave nobody behind
                    activity.stage.interrupt(1)
                    activity.stage.process.wait()
                    activity.close()
        return stop.signal

    def _interrupt(self, stop: StopSignal) -> None:
        assert stop.signal is not None  # noqa: S101  for the type checker
        if stop.count == 1 and self._running:
            self._tell(
                f"{stop.signal.name}: {len(self._running)} running; each finishes its iteration and saves. Once more "
                "quits at once."
            )
        for activity in self._running.values():
            activity.stage.interrupt(stop.count)

    def _fill(self) -> None:
        """Start what there is room for; a cell that another process works on is looked at again later."""
        for job in list(self._waiting):
            if len(self._running) >= self._parallel:
                return
            log = lock(job.log)
            if log is None:
                if job.cell not in self._held:
                    self._held.add(job.cell)
                    self._tell(f"{job.cell}: another process is at it (see {job.log}); waiting for it to end")
                continue
            self._waiting.remove(job)
            self._held.discard(job.cell)
            self._begin(job, log)

    def _begin(self, job: Job, log: BinaryIO) -> None:
        standing = plan.standing(job)  # anew: another process may have worked on it meanwhile
        todo = standing.todo
        if todo == "nothing":
            log.close()
            self.take(job, standing)
            return
        if standing.remark:
            self._tell(f"{job.cell}: {standing.remark}; that is made anew")
        if todo == "train":
            _clear(job.folder)
        (job.folder / FAILURE).unlink(missing_ok=True)
        began = time.monotonic()
        first = (
            worker.evaluate(job, log)
            if todo == "evaluate"
            else worker.train(job, log, resume=todo == "resume")
        )
        self._running[job.cell] = _Activity(job, log, todo == "train", began, first)
        self._line(f"{job.cell}: {BEGUN[todo]}")

    def _advance(self, activity: _Activity, *, stopping: bool) -> None:
        """The stage of `activity` has ended: go on with its evaluation, or with its result."""
        job, code = activity.job, activity.stage.exit_code
        trained = code == 0 and activity.stage.name == "train"
        if stopping and (trained or code not in (0, DIVERGED)):  # it goes on from its checkpoint next time
            self._end(activity)
        elif trained:
            self._running[job.cell] = replace(activity, stage=worker.evaluate(job, activity.log))
        else:
            result = conclude(activity.stage, self._parallel)
            self._end(activity)
            self.results[job.cell] = result
            if result.record is not None:
                self._pace.learn(job.cell, activity.elapsed if activity.whole else result.record.seconds)
            self._line(f"{job.cell}: {result.summary()}")

    def _end(self, activity: _Activity) -> None:
        del self._running[activity.job.cell]
        activity.close()

    def _line(self, text: str) -> None:
        left = self._pace.left(
            [job.cell for job in self._waiting],
            [(cell, activity.elapsed) for cell, activity in self._running.items()],
            self._parallel,
        )
        ahead = f"; about {duration(left)} left" if left else ""
        self._tell(f"[{len(self.results)}/{self._number}] {text}{ahead}")


def lock(log: Path) -> BinaryIO | None:
    """The log file, open for appending and locked; None when another process has it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # a drive without locks: then nobody else can be told of
        pass
    return file


def _clear(folder: Path) -> None:
    """Remove what a run left that was killed before it first saved."""
    for pattern in LEFT_BY_A_RUN:
        for path in folder.glob(pattern):
            path.unlink()
