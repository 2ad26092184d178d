"""A matrix of training runs: every recipe with every algorithm and every seed, each in a process of its own.

What is finished is kept, so that a matrix goes on after any interruption. A cell is worked on by who holds the
lock on its log file; the processes that train it inherit that lock, and keep it should this one be killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, BinaryIO, Literal

from pydantic import ValidationError

from flowrl import __version__, cell, checkpoint, experiment
from flowrl.cell import EVALUATION, FAILURE, MODES, Cell, Failure, Record
from flowrl.config import ALGORITHMS, Config
from flowrl.errors import CheckpointError, UsageError, did_you_mean
from flowrl.machine import machine

EVALUATION_SEEDS = 10_000  # seed k is evaluated with this + k: the same episodes for every algorithm
POLL_S = 0.1
LEFT_BY_A_RUN = ("config.yaml", "metrics.jsonl", "events.out.tfevents.*", "*.pt", ".*.tmp", "*.json")

Tell = Callable[[str], None]
Todo = Literal["nothing", "train", "resume", "evaluate"]


@dataclass(frozen=True)
class Matrix:
    """What is asked for."""

    recipes: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    steps: int | None = None  # None: each recipe's own
    overrides: tuple[str, ...] = ()  # key.path=value; they win over everything else
    episodes: int = 64


@dataclass(frozen=True)
class Job:
    """A cell, and all that is needed to make it."""

    cell: Cell
    folder: Path
    source: str  # the recipe as it was typed
    settings: tuple[str, ...]
    config: dict[str, Any]  # resolved
    episodes: int

    @property
    def evaluation_seed(self) -> int:
        return EVALUATION_SEEDS + self.cell.seed

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


# --- planning -------------------------------------------------------------------------------------


def step_count(text: str) -> int:
    """'2M' → 2 000 000, '500k' → 500 000, '65536', '1_000_000'; raises UsageError."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kmb]?)", text.strip().lower())
    number = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[match[2]] if match else 0.0
    if number < 1 or number != round(number):
        raise UsageError(
            f"--steps {text}: expected a number of environment steps, such as 2M, 500k or 65536."
        )
    return round(number)


def seed_numbers(text: str) -> tuple[int, ...]:
    """'3' → 0, 1, 2; '3-5' → 3, 4, 5; raises UsageError."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match:
        first, last = (0, int(match[1]) - 1) if match[2] is None else (int(match[1]), int(match[2]))
        if first <= last:
            return tuple(range(first, last + 1))
    raise UsageError(
        f"--seeds {text}: expected how many seeds (3 are 0, 1 and 2) or the first and last, as in 3-5."
    )


def algorithm_names(text: str) -> tuple[str, ...]:
    """'fpo,ppo' → ('fpo', 'ppo'); raises UsageError."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in ALGORITHMS:
            near = did_you_mean(name, ALGORITHMS)
            raise UsageError(
                f"--algorithms {text}: there is no {name!r}.{near} Those are: {', '.join(ALGORITHMS)}."
            )
    if not names:
        raise UsageError(f"--algorithms needs at least one of {', '.join(ALGORITHMS)}.")
    return names


def plan(matrix: Matrix) -> list[Job]:
    """Every cell with its resolved configuration, all those of a seed before the next seed.

    Raises UsageError when a recipe does not fit one of the algorithms, before anything is trained.
    """
    _refuse_set_twice(matrix)
    names = _recipe_names(matrix.recipes)
    steps = () if matrix.steps is None else (f"total_steps={matrix.steps}",)
    jobs = []
    for seed in matrix.seeds:
        for source, name in names.items():
            for algorithm in matrix.algorithms:
                settings = (f"algorithm={algorithm}", f"seed={seed}", "threads=1", *steps, *matrix.overrides)
                config = experiment.plan(source, list(settings), None).config.model_dump(mode="json")
                own = Cell(name, algorithm, seed)
                jobs.append(Job(own, own.folder(matrix.out), source, settings, config, matrix.episodes))
    return jobs


def _refuse_set_twice(matrix: Matrix) -> None:
    """--set wins over all else, so that of a key with an option of its own would undo the matrix."""
    options = {"algorithm": "--algorithms", "seed": "--seeds"}
    if matrix.steps is not None:
        options["total_steps"] = "--steps"
    for override in matrix.overrides:
        key = override.partition("=")[0].strip()
        if key in options:
            raise UsageError(f"--set {override}: the cells of a suite get their {key} from {options[key]}.")


def _recipe_names(sources: Sequence[str]) -> dict[str, str]:
    """Recipe as typed -> what its folder is called."""
    names = {source: Path(source).name.removesuffix(".yaml") for source in sources}
    for name, count in Counter(names.values()).items():
        if count > 1:
            twins = " and ".join(source for source in names if names[source] == name)
            raise UsageError(f"{twins} would share the folder {name}: give one of the files another name.")
    return names


# --- what is there already ------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """How far a cell has come, and what is to be done with it."""

    todo: Todo
    record: Record | None = None  # of a finished cell
    failure: Failure | None = None  # of a cell that diverged, and would again
    remark: str = ""  # worth telling


def standing(job: Job) -> Standing:
    """What its folder says of a cell. Raises UsageError when it was made with other settings."""
    remark = ""
    record = cell.read(job.folder / EVALUATION, Record)
    if record is not None:
        _refuse_other_settings(job, record.config)
        remark = _other_evaluation(job, record)
        if not remark:
            return Standing("nothing", record)
    elif (job.folder / EVALUATION).exists():
        remark = f"its {EVALUATION} is not whole"
    failure = cell.read(job.folder / FAILURE, Failure)
    if failure is not None and failure.diverged:
        _refuse_other_settings(job, failure.config)
        return Standing("nothing", failure=failure)
    path = job.folder / checkpoint.LATEST
    if not path.is_file():
        if record is not None:
            raise UsageError(
                f"{job.cell}: {remark}, but there is no {path} any more. Ask for what is there, choose another --out, "
                f"or remove {job.folder} to make the cell anew."
            )
        return Standing("train", remark=remark)
    try:
        content = checkpoint.load(path)
    except CheckpointError:
        return Standing("resume", remark=remark)  # which fails for that reason, and tells it
    _refuse_other_settings(job, content["config"])
    trained = content["progress"]["env_steps"] >= job.config["total_steps"]
    return Standing("evaluate" if trained else "resume", remark=remark)


def _refuse_other_settings(job: Job, there: Mapping[str, Any]) -> None:
    with suppress(ValidationError):  # a key that is newer than the run has its default there
        there = Config.model_validate(dict(there)).model_dump(mode="json")
    found = cell.differences(there, job.config)
    if found:
        more = f", and {len(found) - 5} more" if len(found) > 5 else ""
        raise UsageError(
            f"{job.folder} was made with other settings: {'; '.join(found[:5])}{more}. Choose another --out, or "
            "remove that folder to make the cell anew."
        )


def _other_evaluation(job: Job, record: Record) -> str:
    """Why an evaluation is not the one that is asked for; '' when it is."""
    if missing := [mode for mode in MODES if mode not in record.evaluations]:
        return f"it was not evaluated with {' and '.join(missing)} noise"
    if record.episodes != job.episodes:
        return f"it was evaluated over {record.episodes} episodes, not {job.episodes}"
    if record.evaluation_seed != job.evaluation_seed:
        return f"it was evaluated with seed {record.evaluation_seed}, not {job.evaluation_seed}"
    return ""


# --- running --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """How a cell ended."""

    cell: Cell
    state: Literal["finished", "kept", "diverged", "failed", "unfinished"]
    record: Record | None = None
    failure: Failure | None = None

    def as_dict(self) -> dict[str, Any]:
        """The cell in the JSON document of `flowrl suite`."""
        returns = (
            {mode: score.return_mean for mode, score in self.record.evaluations.items()}
            if self.record
            else {}
        )
        return {
            **asdict(self.cell),
            "state": self.state,
            "returns": returns,
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
    runner = _Runner(jobs, parallel, tell)
    stopped_by = runner.run()
    nothing = [Result(job.cell, "unfinished") for job in jobs]
    return Outcome([runner.results.get(each.cell, each) for each in nothing], stopped_by)


class _Runner:
    """Keeps `parallel` cells going."""

    def __init__(self, jobs: Sequence[Job], parallel: int, tell: Tell) -> None:
        self.results: dict[Cell, Result] = {}
        self._waiting = list(jobs)
        self._running: list[_Activity] = []
        self._number = len(jobs)
        self._parallel = parallel
        self._tell = tell
        self._pace = Pace()
        self._held: set[Cell] = set()  # by other processes, as was told

    def run(self) -> signal.Signals | None:
        """Until nothing is left, or a signal came and everything has stopped; gives that signal."""
        with _Stop() as stop:
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

    def _interrupt(self, stop: _Stop) -> None:
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
            lock = _lock(job.log)
            if lock is None:
                if job.cell not in self._held:
                    self._held.add(job.cell)
                    self._tell(f"{job.cell}: another process is at it (see {job.log}); waiting for it to end")
                continue
            self._waiting.remove(job)
            self._held.discard(job.cell)
            self._begin(job, lock)

    def _begin(self, job: Job, lock: BinaryIO) -> None:
        found = standing(job)
        if found.remark:
            self._tell(f"{job.cell}: {found.remark}; that is made anew")
        if found.todo == "nothing":
            lock.close()
            if found.record:
                self._pace.learn(job.cell, found.record.seconds)
                self.results[job.cell] = Result(job.cell, "kept", found.record)
            elif found.failure:
                self.results[job.cell] = Result(job.cell, "diverged", failure=found.failure)
                self._tell(
                    f"{job.cell}: diverged before, as it would again; remove {job.folder} to try all the same"
                )
            return
        whole = found.todo == "train"
        if whole:
            _clear(job.folder)
        (job.folder / FAILURE).unlink(missing_ok=True)
        activity = _Activity(job, lock, whole, self._parallel)
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
        ahead = f"; about {duration(left)} left" if left else ""
        self._tell(f"[{len(self.results)}/{self._number}] {text}{ahead}")


class _Activity:
    """A cell that is being worked on, one process after the other; holds the cell's lock until `close`."""

    process: subprocess.Popen[bytes]
    stage: Literal["train", "evaluate"]

    def __init__(self, job: Job, lock: BinaryIO, whole: bool, parallel: int) -> None:
        self.job = job
        self.whole = whole  # from the beginning
        self._log = lock
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
        if self.process.returncode < 0:
            name = signal.Signals(-self.process.returncode).name
            memory = " (out of memory?)" if name == "SIGKILL" else ""
            return f"killed by {name}{memory}; what was saved goes on when the suite does"
        with self.job.log.open("rb") as file:
            file.seek(self._said_from)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("flowrl: ") for line in lines if line.startswith("flowrl: ")]
        if self.exit_code == 1:  # a bug of ours: the error itself stands above the plea to report it
            return f"{lines[-2] if len(lines) > 1 else 'no word of why'} (see {self.job.log})"
        return (errors or lines or ["it said nothing"])[-1]


class _Stop:
    """Notes SIGINT, SIGTERM and SIGHUP instead of ending by them."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None  # the first
        self.count = 0
        self._fresh = 0
        self._previous: dict[int, Any] = {}

    def take(self) -> int:
        """How many signals came since the last call."""
        fresh, self._fresh = self._fresh, 0
        return fresh

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with suppress(ValueError):  # signals can be caught in the main thread only
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        self.count += 1
        self._fresh += 1


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


def duration(seconds: float) -> str:
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
    return f"return {', '.join(scores)}; {record.env_steps:,} steps in {duration(record.seconds)}"


def _lock(log: Path) -> BinaryIO | None:
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
