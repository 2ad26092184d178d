"""The trials of a sweep that several processes make at once, on one machine or on several that share its folder.

A process works on a trial while it holds the lock on the trial's folder; a trial without a holder was left by a killed
sweep, and any other one takes it up. New trials are proposed under the lock on the folder of the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import UsageError
from flowrl.experiments import run_folder
from flowrl.experiments.suite.executor import RetryTimes
from flowrl.experiments.sweep import study as studies
from flowrl.experiments.sweep.study import SweepOptions
from flowrl.storage import lock
from flowrl.storage.lock import Locked, RunLock

REFRESH_S = 1.0  # between two readings of the study by a process that waits
LONGEST_PROPOSAL_S = 120.0  # for which a process waits for another one that proposes a trial
LOOK_S = 0.1


@dataclass(frozen=True)
class TakenTrial:
    """A trial that this process works on."""

    trial: Any  # of Optuna
    values: dict[str, Any]  # key -> value
    folder: Path
    held: RunLock

    def release(self) -> None:
        """Let other processes see that nobody works on it any more; an empty folder is removed."""
        self.held.release()
        with suppress(OSError):
            self.folder.rmdir()


class SharedStudy:
    """The study of a sweep, as one of its processes sees it."""

    def __init__(self, study: Any, options: SweepOptions, report: Callable[[str], None]) -> None:
        self._study = study
        self._options = options
        self._report = report
        self._known: list[Any] = []
        self._known_at = float("-inf")
        self._expected = len(study.trials)  # trials, unless another process has proposed some
        self._retries = RetryTimes()

    def trials(self, *, now: bool = False) -> list[Any]:
        """Return all trials, as they were a moment ago, or as they are `now`."""
        if now or time.monotonic() - self._known_at > REFRESH_S:
            self._known = self._study.get_trials(deepcopy=False)
            self._known_at = time.monotonic()
        return self._known

    def left(self) -> int:
        """Return the number of trials that a killed sweep has left running."""
        running = [trial.number for trial in self.trials(now=True) if trial.state.name == "RUNNING"]
        return sum(not lock.is_locked(self._folder(number)) for number in running)

    def has_more(self, mine: set[int]) -> bool:
        """Return whether there are trials to propose, or to wait for, besides those that this process has (`mine`)."""
        return self._may_propose(self.trials()) or bool(self._elsewhere(mine))

    def next(self, mine: set[int]) -> TakenTrial | None:
        """Take up a trial that was left, or propose a new one; None while others work on all that is left to do."""
        for number, trial_id in self._elsewhere(mine):
            if self._retries.is_due(number) and (taken := self._take_up(number, trial_id)) is not None:
                return taken
        if not self._may_propose(self.trials()):
            return None
        with alone(self._options.out):
            trials = self.trials(now=True)
            if not self._may_propose(trials):
                return None
            if len(trials) != self._expected:  # the numbers that this process would draw, another one may have drawn
                self._study.sampler = studies.proposals(self._options, len(trials), liar=True)
            taken = self._taken(self._study.ask())
            self._expected = len(self.trials(now=True))
        return taken

    def changed(self) -> None:
        """Record that this process has changed the study."""
        self._known_at = float("-inf")

    def _folder(self, number: int) -> Path:
        return self._options.out / f"trial{number:04d}"

    def _may_propose(self, trials: list[Any]) -> bool:
        return sum(trial.state.name != "WAITING" for trial in trials) < self._options.trials

    def _elsewhere(self, mine: set[int]) -> list[tuple[int, int]]:
        """Return number and id of the trials that others work on, or have left."""
        return [
            (trial.number, trial._trial_id)
            for trial in self.trials()
            if trial.state.name == "RUNNING" and trial.number not in mine
        ]

    def _take_up(self, number: int, trial_id: int) -> TakenTrial | None:
        try:
            taken = self._taken(studies.optuna().trial.Trial(self._study, trial_id))
        except Locked:
            if self._retries.postpone(number):
                self._report(f"trial {number}: another process works on it")
            return None
        self._retries.forget(number)
        if next(trial.state.name for trial in self.trials(now=True) if trial.number == number) == "RUNNING":
            return taken
        taken.release()
        return None

    def _taken(self, trial: Any) -> TakenTrial:
        folder = self._folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        held = run_folder.lock(folder)
        try:
            return TakenTrial(trial, {each.key: each.suggest(trial) for each in self._options.space}, folder, held)
        except BaseException:
            held.release()
            raise


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the right to begin the study in the folder `out`, and to propose trials; waits for another process.

    Raises UsageError when that takes too long.
    """
    if not studies.is_shared(out):  # its one process holds the folder
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + LONGEST_PROPOSAL_S
    while True:
        try:
            held = run_folder.lock(out)
            break
        except Locked as error:
            if time.monotonic() > give_up:
                raise UsageError(f"{out}: {lock.holder(out)} has been proposing a trial for minutes. {error}") from None
            time.sleep(LOOK_S)
    try:
        yield
    finally:
        held.release()
