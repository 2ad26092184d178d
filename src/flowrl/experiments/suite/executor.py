"""Where the trials of a suite or a sweep are made: what a scheduler asks of local processes and of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.result import TrialResult
from flowrl.experiments.suite.trial import TrialRecord

Report = Callable[[str], None]

SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.5, 15.0
LOOKS_PER_S = 4  # at locked trials, in all


class RunningTrial(Protocol):
    """A trial that is being worked on."""

    job: Job

    @property
    def beginning(self) -> str:
        """How it began, in words: 'started', 'continued', 'evaluating'."""

    @property
    def words(self) -> str:
        """How far it is, in words: '45%', 'evaluating'."""

    @property
    def share(self) -> float:
        """The share of its environment steps that are done, in [0, 1]."""

    @property
    def is_training(self) -> bool:
        """Whether its training runs."""

    @property
    def elapsed(self) -> float:
        """The seconds since it began."""

    def duration(self, record: TrialRecord) -> float:
        """Return the seconds that the finished trial took from its first step on."""

    def poll(self, *, stopping: bool) -> TrialResult | None:
        """Begin its next step where one has ended, and return its result at the end; None while it runs.

        'unfinished' is the result of one that ended before its end: a stop signal was passed on (`stopping`), or its
        worker was lost. It continues from its checkpoint. Raises StorageError.
        """

    def interrupt(self, count: int) -> None:
        """Ask it to save itself and stop; kill it from the second call on (`count`)."""

    def end(self) -> None:
        """Stop it and wait until it has saved itself, after an error in this process."""


class Executor(Protocol):
    """Makes trials somewhere."""

    def start(self, job: Job, report: Report) -> RunningTrial | TrialResult | None:
        """Begin the next step of a trial; its result where nothing is left to do, None while another process has it.

        Raises StorageError, and UsageError when the trial was made with other settings.
        """

    def interrupt(self, running: Sequence[RunningTrial], stop: StopSignal, report: Report) -> None:
        """Handle a stop signal."""


class RetryTimes:
    """Says when to look again at trials that other processes, perhaps on other machines, have locked.

    A look costs the drive a few operations, so the time between two grows with the time that a trial has been locked,
    and with the number of such trials.
    """

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}  # seconds of the monotonic clock
        self._next: dict[Hashable, float] = {}

    def is_due(self, trial: Hashable) -> bool:
        """Return whether to look at `trial` now."""
        return time.monotonic() >= self._next.get(trial, 0.0)

    def postpone(self, trial: Hashable) -> bool:
        """Record that `trial` is locked; returns whether this is new."""
        now = time.monotonic()
        is_new = trial not in self._since
        waited = now - self._since.setdefault(trial, now)
        pause = max(SHORTEST_RETRY_S, min(LONGEST_RETRY_S, waited / 10), len(self._since) / LOOKS_PER_S)
        self._next[trial] = now + pause
        return is_new

    def waited(self, trial: Hashable) -> float:
        """Return the seconds for which `trial` has been found locked."""
        return time.monotonic() - self._since[trial] if trial in self._since else 0.0

    def forget(self, trial: Hashable) -> None:
        """Record that `trial` is not locked any more."""
        self._since.pop(trial, None)
        self._next.pop(trial, None)


def end_all(running: Sequence[RunningTrial]) -> None:
    """Stop the `running` trials and wait for them."""
    for trial in running:
        trial.interrupt(1)
    for trial in running:
        trial.end()


def pass_on(running: Sequence[RunningTrial], stop: StopSignal, report: Report) -> None:
    """Pass a stop signal on to running trials, and report the first one."""
    assert stop.signal is not None  # noqa: S101  for the type checker
    if stop.count == 1 and running:
        report(
            f"{stop.signal.name}: {len(running)} running; each finishes its iteration and saves. A second signal stops "
            "them at once."
        )
    for trial in running:
        trial.interrupt(stop.count)
