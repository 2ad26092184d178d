"""Run the trials of a sweep, several at a time, each in processes of its own, as those of a suite.

A trial trains one run per seed, one after the other, and evaluates it; its value is the mean over the seeds of the mean
return of the evaluation. What a killed sweep has left running is continued from its checkpoint by the next one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from flowrl.contracts.errors import UsageError
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.suite import executor as executors
from flowrl.experiments.suite import plan
from flowrl.experiments.suite.executor import Executor, RetryTimes, RunningTrial
from flowrl.experiments.suite.local import LocalExecutor
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.result import TrialResult
from flowrl.experiments.suite.scheduler import POLL_S, WATCH_S, SuiteProgress
from flowrl.experiments.suite.trial import MODES, Trial, TrialRecord
from flowrl.experiments.suite.worker import SIGNALLED
from flowrl.experiments.sweep import study as studies
from flowrl.experiments.sweep.shared_study import SharedStudy, TakenTrial
from flowrl.experiments.sweep.space import overrides_of
from flowrl.experiments.sweep.study import SweepOptions
from flowrl.policies import noise_modes
from flowrl.reporting import jsonl

REPORT_EVERY = 5  # percent of a trial's budget between two values that the pruner sees
FAILED_IN_A_ROW = 10  # trials, without one that finished, after which the sweep ends

Report = Callable[[str], None]
Watch = Callable[[SuiteProgress], None]


@dataclass
class ActiveTrial:
    """A trial that is being worked on."""

    taken: TakenTrial
    jobs: list[Job]  # one per seed
    returns: list[float] = field(default_factory=list)  # of the seeds that are done
    running: RunningTrial | None = None
    reported: int = 0  # percent of the budget of the first seed that the pruner has seen
    pruned: bool = False
    problem: str = ""  # why its values do not fit together, or ''

    @property
    def share(self) -> float:
        """The share of its work that is done, in [0, 1]."""
        current = 0.0 if self.running is None else self.running.share
        return min(1.0, (len(self.returns) + current) / len(self.jobs))

    @property
    def trial(self) -> Any:
        """The trial of Optuna."""
        return self.taken.trial

    def __str__(self) -> str:
        return f"trial {self.trial.number}"


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended."""

    study: Any
    signal: signal.Signals | None
    exit_code: int


class SweepRunner:
    """Asks the study for trials and works on `parallel` of them at a time."""

    def __init__(
        self,
        study: Any,
        options: SweepOptions,
        parallel: int,
        report: Report,
        watch: Watch,
        executor: Executor | None = None,
    ) -> None:
        self._study = study
        self._options = options
        self._parallel = parallel
        self._report = report
        self._watch = watch
        self._executor = executor or LocalExecutor(parallel)
        self._next_watch = 0.0
        self._active: list[ActiveTrial] = []
        self._failed = 0  # trials since the last one that finished
        self._shared = SharedStudy(study, options, report)
        self._retries = RetryTimes()

    def run(self) -> SweepOutcome:
        """Work until all trials are done, a signal comes, or no trial works."""
        done = sum(trial.state.is_finished() for trial in self._study.trials)
        left = f", {number} to continue" if (number := self._shared.left()) else ""
        self._report(f"{self._options.trials} trials: {done} done{left}; {self._parallel} at a time")
        stopping = False  # the executor knows of the signal
        with StopSignal() as stop, closing(self):
            while self._active or (not stop.signal and self._has_more()):
                for _ in range(stop.take()):
                    self._executor.interrupt(self._running(), stop, self._report)
                    stopping = True
                while not stop.signal and len(self._active) < self._parallel and self._has_more():
                    if (taken := self._shared.next(self._mine())) is None:
                        break
                    self._active.append(self._begun(taken))
                for active in list(self._active):
                    self._advance(active, stopping=stopping)
                self._show()
                time.sleep(POLL_S)
        studies.write_best(self._study, self._options)
        code = SIGNALLED + stop.signal.value if stop.signal else self._exit_code()
        return SweepOutcome(self._study, stop.signal, code)

    def close(self) -> None:
        """Terminate all processes: there are some only after an error in this one."""
        executors.end_all(self._running())
        for active in self._active:
            active.taken.release()

    def _running(self) -> list[RunningTrial]:
        return [active.running for active in self._active if active.running is not None]

    def _mine(self) -> set[int]:
        return {active.trial.number for active in self._active}

    def _has_more(self) -> bool:
        return self._failed < FAILED_IN_A_ROW and self._shared.has_more(self._mine())

    def _begun(self, taken: TakenTrial) -> ActiveTrial:
        """Resolve the configurations of a trial."""
        overrides = (*self._options.base, *overrides_of(self._options.space, taken.values))
        folder = taken.folder
        jobs, problem = [], ""
        try:
            jobs = [
                plan.job(
                    self._options.recipe,
                    Trial(folder.name, "", seed),
                    folder / f"seed{seed}",
                    (f"seed={seed}", *overrides),
                    self._options.episodes,
                    self._options.imports,
                )
                for seed in self._options.seeds
            ]
        except UsageError as error:  # values that are right each for itself may not fit together
            problem = str(error)
        shown = ", ".join(f"{key.rpartition('.')[2]} {_short(value)}" for key, value in taken.values.items())
        self._report(f"trial {taken.trial.number}: {shown}")
        return ActiveTrial(taken, jobs, problem=problem)

    def _advance(self, active: ActiveTrial, *, stopping: bool) -> None:
        """Start, watch or end the work on a trial."""
        if active.running is None:
            if stopping:
                self._drop(active)
            elif active.problem:
                self._fail(active, "FAIL", active.problem, UsageError.exit_code)
            else:
                self._start(active)
            return
        result = active.running.poll(stopping=stopping or active.pruned)
        if result is None:
            self._report_progress(active)
            return
        active.running = None
        if result.state == "unfinished" and stopping:
            self._drop(active)  # the next sweep continues from its checkpoint
        elif active.pruned:
            self._fail(active, "PRUNED", f"pruned at {active.reported} % of its budget")
        elif result.state != "unfinished":
            self._take(active, result)

    def _drop(self, active: ActiveTrial) -> None:
        self._active.remove(active)
        active.taken.release()
        self._shared.changed()

    def _start(self, active: ActiveTrial) -> None:
        """Start what is left to do for the next seed; a process that a killed sweep has left is waited for."""
        job = active.jobs[len(active.returns)]
        if not self._retries.is_due(job.folder):
            return
        begun = self._executor.start(job, self._report)
        if begun is None:
            self._retries.postpone(job.folder)
        elif isinstance(begun, TrialResult):
            self._take(active, begun)
        else:
            self._retries.forget(job.folder)
            active.running = begun

    def _report_progress(self, active: ActiveTrial) -> None:
        """Tell the pruner the mean return of the last part of the training of the first seed, and follow its advice."""
        assert active.running is not None  # noqa: S101  for the type checker
        percent = REPORT_EVERY * int(100 * active.running.share / REPORT_EVERY)
        due = active.running.is_training and not active.returns and percent > active.reported
        if self._options.pruner == "none" or not due or active.pruned:
            return
        job = active.running.job
        first = job.config["total_steps"] * active.reported / 100
        with suppress(UsageError):
            lines = jsonl.read(job.folder / jsonl.NAME)
            returns = [line["return_mean"] for line in lines if line.get("env_steps", 0) > first and _known(line)]
            if returns and percent < 100:
                active.trial.report(fmean(returns), percent)
                active.reported = percent
                active.pruned = bool(active.trial.should_prune())
        if active.pruned:
            active.running.interrupt(1)

    def _take(self, active: ActiveTrial, result: TrialResult) -> None:
        """Record the result of a seed, and that of the trial when all seeds are done."""
        if result.record is None:
            failure = result.failure
            state = "PRUNED" if failure is not None and failure.diverged else "FAIL"  # no place to look again
            code = failure.exit_code if failure else None
            self._fail(active, state, failure.message if failure else result.state, code)
            return
        active.returns.append(objective(result.record))
        if len(active.returns) < len(active.jobs):
            return
        value = fmean(active.returns)
        active.trial.set_user_attr("returns", active.returns)
        self._study.tell(active.trial.number, value, skip_if_finished=True)
        self._failed = 0
        self._drop(active)
        best = studies.best_trial(self._study)
        mark = " (the best so far)" if best is not None and best.number == active.trial.number else ""
        self._report(f"{active}: mean return {value:.5g}{mark}")
        if mark:
            studies.write_best(self._study, self._options)

    def _fail(self, active: ActiveTrial, state: str, message: str, exit_code: int | None = None) -> None:
        """Record a trial without a value: pruned, diverged or failed."""
        states = studies.optuna().trial.TrialState
        active.trial.set_user_attr("message", message)
        if exit_code is not None:
            active.trial.set_user_attr("exit_code", exit_code)
        self._study.tell(active.trial.number, state=states[state], skip_if_finished=True)
        self._drop(active)
        if not active.pruned:
            self._failed += 1
        self._report(f"{active}: {message}")

    def _exit_code(self) -> int:
        """0 if any trial has finished, or all were pruned, else the exit code of the first that failed."""
        if studies.best_trial(self._study) is not None:
            return 0
        codes = [trial.user_attrs.get("exit_code") for trial in self._study.trials]
        return next((code for code in codes if code), 0)

    def _show(self) -> None:
        if time.monotonic() < self._next_watch:
            return
        self._next_watch = time.monotonic() + WATCH_S
        done = sum(trial.state.is_finished() for trial in self._shared.trials())
        words = tuple(f"{active} {active.share:.0%}" for active in self._active)
        shares = sum(active.share for active in self._active)
        self._watch(SuiteProgress(done, done + shares, max(self._options.trials, done), words))


def objective(record: TrialRecord) -> float:
    """Return the mean return of the evaluation of ckpt.pt, with the noise of the recipe (`noise`, `noise_scale`);
    with random noise for a recipe with fixed noise."""
    mode = "zero" if record.config.get("noise") == "zero" else MODES[0]
    own = noise_modes.label(mode, record.config.get("noise_scale", 1.0))
    return record.evaluations[own if own in record.evaluations else MODES[0]].return_mean


def _known(line: dict[str, Any]) -> bool:
    return isinstance(line.get("return_mean"), int | float)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
