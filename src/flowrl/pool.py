"""The pool of processes that makes the cells of a matrix, some at a time.

A cell is worked on by who holds the lock on its log file. The processes that train it inherit that lock, and keep
it should this one be killed: whoever comes next waits for them.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, BinaryIO, Literal

from pydantic import ValidationError

from flowrl import __version__, cell, checkpoint
from flowrl.cell import EVALUATION, FAILURE, MODES, Cell, Failure, Record
from flowrl.interruption import Interruption
from flowrl.machine import machine
from flowrl.matrix import Job, Standing, Todo, standing

POLL_S = 0.1
LEFT_BY_A_RUN = ("config.yaml", "metrics.jsonl", "events.out.tfevents.*", "*.pt", ".*.tmp", "*.json")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """How a cell ended."""

    cell: Cell
    state: Literal["finished", "kept", "diverged", "failed", "unfinished"]
    record: Record | None = None
    failure: Failure | None = None

    def as_dict(self) -> dict[str, Any]:
        """The cell in the JSON document of `flowrl suite`."""
        scores = self.record.evaluations if self.record else {}
        return {
            **asdict(self.cell),
            "state": self.state,
            "returns": {mode: score.return_mean for mode, score in scores.items()},
            "env_steps": self.record.env_steps if self.record else None,
            "seconds": self.record.seconds if self.record else None,
            "env_steps_per_s": self.record.env_steps_per_s if self.record else None,
            "exit_code": self.failure.exit_code if self.failure else None,
            "message": self.failure.message if self.failure else None,
        }


@dataclass(frozen=True)
class Outcome:
    """How a matrix ended."""

    results: list[Result]  # in the order of the plan
    signal: signal.Signals | None  # that stopped it

    @property
    def exit_code(self) -> int:
        """130 or the like after a signal, 3 if any cell diverged, else that of the first failure."""
        if self.signal is not None:
            return 128 + self.signal.value
        codes = [result.failure.exit_code for result in self.results if result.failure]
        return 3 if 3 in codes else next(iter(codes), 0)

    def count(self, *states: str) -> int:
        return sum(result.state in states for result in self.results)


def run(jobs: Sequence[Job], parallel: int, tell: Tell) -> Outcome:
    """Make every cell that is not finished, `parallel` at a time, until done or told to stop by a signal.

    `tell` hears a line whenever a cell starts or ends. Raises UsageError when a cell was made with other
    settings (nothing is started then) and StorageError when a record cannot be written.
    """
    standings = [standing(job) for job in jobs]
    counts = Counter(each.todo for each in standings)
    words: dict[Todo, str] = {
        "nothing": "done",
        "evaluate": "to evaluate",
        "resume": "to continue",
        "train": "to train",
    }
    told = ", ".join(f"{counts[todo]} {word}" for todo, word in words.items() if counts[todo])
    tell(f"{len(jobs)} cells: {told}; {parallel} at a time")
    runner = _Runner(len(jobs), parallel, tell)
    for job, found in zip(jobs, standings, strict=True):
        runner.take(job, found)
    stopped_by = runner.run()
    return Outcome([runner.results.get(job.cell, Result(job.cell, "unfinished")) for job in jobs], stopped_by)


class _Runner:
    """Keeps `parallel` cells going."""

    def __init__(self, number: int, parallel: int, tell: Tell) -> None:
        self.results: dict[Cell, Result] = {}
        self._waiting: list[Job] = []
        self._running: list[_Activity] = []
        self._number = number
        self._parallel = parallel
        self._tell = tell
        self._pace = Pace()
        self._held: set[Cell] = set()  # by other processes, as was told

    def take(self, job: Job, found: Standing) -> None:
        """Keep what is done already, or put the job at the end of the queue."""
        if found.record is not None and found.todo == "nothing":
            self._pace.learn(job.cell, found.record.seconds)
            self.results[job.cell] = Result(job.cell, "kept", found.record)
        elif found.failure is not None and found.todo == "nothing":
            self.results[job.cell] = Result(job.cell, "diverged", failure=found.failure)
            self._tell(
                f"{job.cell}: diverged before, as it would again; remove {job.folder} to try all the same"
            )
        else:
            self._waiting.append(job)

    def run(self) -> signal.Signals | None:
        """Until nothing is left, or a signal came and everything has stopped; gives that signal."""
        with Interruption(None, signal.SIGTERM, signal.SIGHUP) as stop:
            try:
                while self._running or (self._waiting and not stop.signal):
                    for _ in range(stop.take()):
                        self._interrupt(stop)
                    if not stop.signal:
                        self._fill()
                    for activity in list(self._running):
                        if activity.process.poll() is not None:
                            self._went(activity, stopping=stop.signal is not None)
                    time.sleep(POLL_S)
            finally:
                for activity in self._running:  # after an error of ours: leave nobody behind
                    activity.interrupt(1)
                    activity.process.wait()
                    activity.close()
        return stop.signal

    def _interrupt(self, stop: Interruption) -> None:
        assert stop.signal is not None  # noqa: S101  for the type checker
        if stop.count == 1 and self._running:
            self._tell(
                f"{stop.signal.name}: {len(self._running)} running; each finishes its iteration and saves. Once more "
                "quits at once."
            )
        for activity in self._running:
            activity.interrupt(stop.count)

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
        found = standing(job)  # anew: another process may have worked on it meanwhile
        if found.todo == "nothing":
            log.close()
            self.take(job, found)
            return
        if found.remark:
            self._tell(f"{job.cell}: {found.remark}; that is made anew")
        whole = found.todo == "train"
        if whole:
            _clear(job.folder)
        (job.folder / FAILURE).unlink(missing_ok=True)
        activity = _Activity(job, log, whole, self._parallel)
        if found.todo == "evaluate":
            activity.evaluate()
        else:
            activity.train(resume=not whole)
        self._running.append(activity)
        verb = {"train": "started", "resume": "continued", "evaluate": "evaluated"}[found.todo]
        self._line(f"{job.cell}: {verb}")

    def _went(self, activity: _Activity, *, stopping: bool) -> None:
        """The process of `activity` has ended: go on with its evaluation, or with its result."""
        job, code = activity.job, activity.exit_code
        trained = code == 0 and activity.stage == "train"
        if stopping and (trained or code not in (0, 3)):  # it goes on from its checkpoint next time
            self._end(activity)
        elif trained:
            activity.evaluate()
        else:
            result = activity.result()
            self._end(activity)
            self.results[job.cell] = result
            if result.record is not None:
                self._pace.learn(job.cell, activity.elapsed if activity.whole else result.record.seconds)
                self._line(f"{job.cell}: {_summary(result.record)}")
            elif result.failure is not None:
                self._line(
                    f"{job.cell}: {result.state} (exit {result.failure.exit_code}): {result.failure.message}"
                )

    def _end(self, activity: _Activity) -> None:
        self._running.remove(activity)
        activity.close()

    def _line(self, text: str) -> None:
        left = self._pace.left(
            [job.cell for job in self._waiting],
            [(activity.job.cell, activity.elapsed) for activity in self._running],
            self._parallel,
        )
        ahead = f"; about {roughly(left)} left" if left else ""
        self._tell(f"[{len(self.results)}/{self._number}] {text}{ahead}")


class _Activity:
    """A cell that is being worked on, one process after the other; holds the cell's lock until `close`."""

    process: subprocess.Popen[bytes]
    stage: Literal["train", "evaluate"]

    def __init__(self, job: Job, log: BinaryIO, whole: bool, parallel: int) -> None:
        self.job = job
        self.whole = whole  # from the beginning
        self._log = log
        self._parallel = parallel
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def exit_code(self) -> int:
        """Of the process that has ended; 128 + the signal's number if a signal ended it, as a shell has it."""
        code = self.process.returncode
        return 128 - code if code < 0 else code

    def train(self, *, resume: bool) -> None:
        """Train the cell to its end."""
        job = self.job
        self.stage = "train"
        if resume:
            options = ["--resume", job.folder, *_sampler_file(job, "--set", "sampler.name="), "--set"]
            options += [f"threads={job.config['threads']}", "--set", f"device={job.config['device']}"]
        else:
            options = [job.source, "--out", job.folder.parent, "--name", job.folder.name]
            options += [part for setting in job.settings for part in ("--set", setting)]
        self._open(["train", *map(str, options), "--json"], output=self._log)

    def evaluate(self) -> None:
        """Evaluate what was trained, under every noise mode."""
        job = self.job
        self.stage = "evaluate"
        options = ["--noise", ",".join(MODES), "--episodes", job.episodes, "--seed", job.evaluation_seed]
        options += _sampler_file(job, "--sampler", "")
        self._open(["eval", *map(str, [job.folder / checkpoint.LATEST, *options]), "--json"])

    def interrupt(self, time: int) -> None:
        """Stop the process: the first time so that it saves."""
        with suppress(ProcessLookupError):
            if time > 1:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.send_signal(signal.SIGINT if self.stage == "train" else signal.SIGTERM)

    def result(self) -> Result:
        """What the process that has ended leaves behind, written down in the cell's folder."""
        job = self.job
        if self.exit_code == 0:
            scores = json.loads(self.process.communicate()[0])
            try:
                record = self._record({score["noise"]: score for score in scores})
            except ValidationError:
                return self._failed("a mean return is not finite")
            cell.write(job.folder / EVALUATION, record)
            return Result(job.cell, "finished", record)
        return self._failed(self._last_words())

    def close(self) -> None:
        """Let go of the cell."""
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def _open(self, arguments: list[str], output: BinaryIO | int = subprocess.PIPE) -> None:
        self._log.write(f"$ flowrl {' '.join(arguments)}\n".encode())
        self._log.flush()
        self._said_from = self._log.tell()
        threads = str(self.job.config["threads"])
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "flowrl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=self._log,  # and with it the lock
            env=os.environ | limits,
            start_new_session=True,  # Ctrl-C reaches us alone: a second one would make it quit without saving
        )

    def _record(self, scores: dict[str, Any]) -> Record:
        job = self.job
        progress = checkpoint.load(job.folder / checkpoint.LATEST)["progress"]
        seconds = progress["seconds"]
        return Record(
            flowrl=__version__,
            recipe=job.source,
            algorithm=job.cell.algorithm,
            seed=job.cell.seed,
            digest=cell.digest(job.config),
            config=job.config,
            env_steps=progress["env_steps"],
            seconds=seconds,
            env_steps_per_s=progress["env_steps"] / seconds if seconds else None,
            jobs=self._parallel,
            machine=asdict(replace(machine(), threads=job.config["threads"])),
            episodes=job.episodes,
            evaluation_seed=job.evaluation_seed,
            evaluations=scores,
        )

    def _failed(self, message: str) -> Result:
        job = self.job
        failure = Failure(
            flowrl=__version__,
            stage=self.stage,
            exit_code=self.exit_code or 1,
            message=message,
            digest=cell.digest(job.config),
            config=job.config,
        )
        cell.write(job.folder / FAILURE, failure)
        return Result(job.cell, "diverged" if failure.diverged else "failed", failure=failure)

    def _last_words(self) -> str:
        """The error that the process told, or the last line that it wrote."""
        by = self.exit_code - 128
        if by in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) or self.process.returncode < 0:
            memory = " (out of memory?)" if by == signal.SIGKILL else ""
            return f"stopped by {signal.Signals(by).name}{memory}; what was saved goes on when the suite does"
        with self.job.log.open("rb") as file:
            file.seek(self._said_from)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("flowrl: ") for line in lines if line.startswith("flowrl: ")]
        if self.exit_code == 1:  # a bug of ours: the error itself stands above the plea to report it
            return f"{lines[-2] if len(lines) > 1 else 'no word of why'} (see {self.job.log})"
        return (errors or lines or ["it said nothing"])[-1]


class Pace:
    """How long a cell takes, learned from those that are finished."""

    def __init__(self) -> None:
        self._known: dict[Cell, float] = {}

    def learn(self, finished: Cell, seconds: float) -> None:
        self._known[finished] = seconds

    def estimate(self, asked: Cell) -> float | None:
        """Seconds: the mean of other seeds' cells, else of the recipe's, else of all; None before the first."""
        same_recipe = {other: s for other, s in self._known.items() if other.recipe == asked.recipe}
        alike = [s for other, s in same_recipe.items() if other.algorithm == asked.algorithm]
        known = alike or list((same_recipe or self._known).values())
        return fmean(known) if known else None

    def left(
        self, waiting: Sequence[Cell], running: Sequence[tuple[Cell, float]], parallel: int
    ) -> float | None:
        """Seconds until all is done; `running` has the seconds that each cell has had already."""
        ahead = [self.estimate(each) for each in waiting]
        current = [(self.estimate(each), had) for each, had in running]
        if None in ahead or any(estimate is None for estimate, _ in current):
            return None
        rests = [max(0.0, (estimate or 0.0) - had) for estimate, had in current]
        return max([(sum(filter(None, ahead)) + sum(rests)) / parallel, *rests])


def roughly(seconds: float) -> str:
    """'40 s', '12 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _summary(record: Record) -> str:
    scores = [
        f"{score.return_mean:.4g} {cell.spelled(mode, record.config)}"
        for mode, score in record.evaluations.items()
    ]
    return f"return {', '.join(scores)}; {record.env_steps:,} steps in {roughly(record.seconds)}"


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


def _sampler_file(job: Job, option: str, prefix: str) -> list[str]:
    """The sampler named once more where it is a Python file: a checkpoint alone is not enough to run that."""
    name = job.config["sampler"]["name"]
    return [option, f"{prefix}{name}"] if ".py:" in name else []
