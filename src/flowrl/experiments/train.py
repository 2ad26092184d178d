"""Training a run in its folder: plan, train, save, stop and resume."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flowrl.config import named_code, recipe
from flowrl.config.schema import Config
from flowrl.contracts.errors import ProcessLost, Stopped, TrainingDiverged, UsageError
from flowrl.contracts.notices import say
from flowrl.experiments import callbacks, code_record, divergence, run_folder, warm_start
from flowrl.experiments.build import Run
from flowrl.experiments.callbacks import Callback, CallbackFailed, Callbacks
from flowrl.experiments.saver import Saver
from flowrl.experiments.shard import share_weights
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.train_plan import TrainPlan as TrainPlan
from flowrl.experiments.train_plan import plan as plan
from flowrl.experiments.train_plan import planned_run as planned_run
from flowrl.experiments.train_plan import resolved as resolved
from flowrl.experiments.train_plan import stamp_of
from flowrl.reporting import jsonl
from flowrl.reporting.reporters import Reporters, open_reporters
from flowrl.storage import checkpoint
from flowrl.storage.lock import RunLock
from flowrl.training.loop import Metrics
from flowrl.training.warning_signs import WarningSigns

if TYPE_CHECKING:
    from flowrl.experiments.distributed import Processes


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training session."""

    folder: Path
    env_steps: int
    seconds: float  # of collecting and updating, over all the run's sessions
    session_s: float  # of this session's iterations, reporting and saving included
    session_env_steps: int
    metrics: Metrics  # the last value of each
    warnings: list[str]  # of this session: signs that the run is about to fail
    signal: signal.Signals | None  # that stopped it early
    callback: str | None = None  # that stopped it early

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document of `flowrl train --json`."""
        return {
            "run": str(self.folder),
            "checkpoint": str(self.folder / checkpoint.LATEST),
            "env_steps_per_s": self.env_steps / self.seconds if self.seconds else None,
            "stopped_by": self.signal.name if self.signal else self.callback,
            **{name: value for name, value in asdict(self).items() if name not in ("folder", "signal", "callback")},
        }

    def summary(self) -> str:
        """Return the result in one line."""
        names = {"return_mean": "return", "success_rate": "success", "length_mean": "length"}
        means = [f"{names[key]} {self.metrics[key]:.4g}" for key in names if key in self.metrics]
        rate = self.env_steps / self.seconds if self.seconds else 0.0
        parts = [f"{self.env_steps:,} env steps in {self.seconds:.1f} s ({rate:,.0f}/s)"]
        if 0 < self.session_env_steps < self.env_steps:
            parts.append(f"{self.session_env_steps:,} of them in {self.session_s:.1f} s in this session")
        return f"{self.folder}: " + ", ".join([*parts, *means])


def train(
    planned: TrainPlan,
    out: Path,
    name: str | None,
    *,
    quiet: bool = False,
    called: Sequence[Callback] = (),
    group: Processes | None = None,
) -> TrainResult:
    """Train until the budget is spent, a signal comes or a callback asks to stop, saving checkpoints meanwhile.

    `out` and `name` choose a new run's folder; `quiet` turns the progress output off; the callables `called` are
    callbacks besides those of the configuration. This is the first process of the `group`, if there is one, whose
    others `follow`. Nothing is written to the folder of a resumed run before its state is
    restored, and nothing at all where it is finished. Raises TrainingDiverged (the last good checkpoint stays),
    EnvironmentFailed, StorageError, UsageError (Locked while another process trains it).
    """
    if planned.is_finished:
        return _finished(planned)
    config, content, folder = planned.config, planned.content, planned.folder
    with ExitStack() as stack:
        if folder is not None:
            stack.callback((lock := run_folder.lock(folder)).release)
            _refuse_other_checkpoint(planned)
        run = Run(config, None if group is None else group.shards(config))
        stack.callback(run.close)
        inexact = _begin(run, planned)
        if folder is None or content is None:
            stem = f"{planned.stem}-{config.algorithm}-seed{config.seed}"
            folder, lock = run_folder.new(out, stem, name, resolved(planned))
            stack.callback(lock.release)
            offset = progress = None
        else:
            _say_what_differs(planned, folder, content, inexact)
            offset, progress = int(content["metrics_offset"]), content["progress"]
        calls = callbacks.load(config, called)
        stack.callback(calls.close)
        if group is not None:
            group.began(folder)
        reporters = stack.enter_context(
            open_reporters(
                folder,
                config.total_steps,
                heading=f"{folder}: {config.algorithm} on {config.env.id}, seed {config.seed}",
                offset=offset,
                progress=progress,
                quiet=quiet,
                trackers=config.trackers,
                config=config.model_dump(mode="json"),
            )
        )
        if reporters.missing:
            say(reporters.missing)
        checkpoint.clean(folder)
        return _train(run, folder, reporters, calls, lock, is_new=content is None)


def _say_what_differs(planned: TrainPlan, folder: Path, content: dict[str, Any], inexact: str) -> None:
    """Print what is otherwise than when the run in `folder` was saved; `inexact` is why it is not bit for bit."""
    if inexact:
        say(f"{folder} continues, but not bit for bit as without the interruption: {inexact}.")
    if _is_edited(folder / run_folder.CONFIG, planned.trained):
        path = folder / run_folder.CONFIG
        say(f"{path} differs from the checkpoint and is not read: change settings with --set.")
    for line in code_record.changes(content, planned.path or folder, planned.config.model_dump(mode="json")):
        say(f"note: {line} The run continues with the present one.")


def follow(planned: TrainPlan, group: Processes) -> signal.Signals | None:
    """Train the shards of a process that is not the first of the `group`: it writes nothing and prints nothing.

    Returns the signal that stopped the training early.
    """
    if planned.is_finished:
        return None
    run = Run(planned.config, group.shards(planned.config))
    with ExitStack() as stack:
        stack.callback(run.close)
        _begin(run, planned)
        return _train(run, None, None, Callbacks([]), None, is_new=planned.content is None).signal


def _begin(run: Run, planned: TrainPlan) -> str:
    """Let a run begin, or continue from the checkpoint of the plan; returns why it does not continue bit for bit."""
    if planned.content is not None:
        return run.restore(planned.content)
    if run.shards.is_first and (initial := planned.initial or warm_start.read(run.config)) is not None:
        warm_start.begin(run, initial)
    share_weights(run.shards, run.training.learner)
    run.start()
    return ""


def _refuse_other_checkpoint(planned: TrainPlan) -> None:
    """Raise UsageError when another process has saved the run since its checkpoint was read."""
    assert planned.path is not None  # noqa: S101  for the type checker
    if stamp_of(planned.path) != planned.stamp:
        raise UsageError(
            f"{planned.path} was saved by another process just now. Type the same command again to continue from there."
        )


def _is_edited(path: Path, trained: Config | None) -> bool:
    """Return whether the config.yaml at `path` has other settings than the checkpoint, and is valid."""
    with suppress(UsageError):
        return path.is_file() and recipe.validate(Config, named_code.located(recipe.read(path))) != trained
    return False


def _finished(planned: TrainPlan) -> TrainResult:
    """Return the result of a run that has nothing left to train."""
    assert planned.folder is not None and planned.content is not None  # noqa: S101  for the type checker
    progress = planned.content["progress"]
    last = jsonl.latest(planned.folder / jsonl.NAME, int(progress["iteration"]))
    return TrainResult(planned.folder, int(progress["env_steps"]), progress["seconds"], 0.0, 0, last, [], None)


def _train(
    run: Run, folder: Path | None, reporters: Reporters | None, calls: Callbacks, lock: RunLock | None, *, is_new: bool
) -> TrainResult:
    """Train; `folder`, `reporters` and the folder's `lock` are those of the first process, which writes."""
    saver = Saver(run, folder, reporters, has_config=is_new)
    signs = WarningSigns()
    last: Metrics = {}
    failed: list[CallbackFailed] = []
    agreed = Agreement(run)
    begin, steps_before = time.perf_counter(), run.training.env_steps
    with StopSignal(_finish_iteration) as stop:

        def report(metrics: Metrics) -> None:
            if lock is not None:
                lock.check()
            last.update(metrics)
            if reporters is not None:
                reporters(int(metrics["iteration"]), metrics)
            saver.take(metrics)
            for line in signs.add(metrics):
                say(f"warning: after {int(metrics['env_steps']):,} env steps: {line}")
            try:
                calls(metrics)
            except CallbackFailed as error:
                failed.append(error)

        def stops() -> bool:
            return agreed.to_stop(stop.signal, called=bool(calls.stopped_by or failed))

        gap = run.shards.first_says(reporters is not None and bool(reporters.missing))
        if is_new or gap:  # a run that is killed early continues from here, and from where its file ends
            saver.save()
        if folder is not None:
            code_record.keep(folder, run.code)
        try:
            run.training.run(report, stops)
            stops()  # a signal may have come in the last iteration
            saver.save()
        except TrainingDiverged as error:
            raise divergence.explained(error, run, folder) from error
        except ProcessLost as error:
            raise _with_command(error, run, folder) from error
    if failed:
        raise CallbackFailed(f"{failed[0]} The run is saved: {_again(run, folder)} continues it.") from failed[0]
    return TrainResult(
        folder=folder or Path(),
        env_steps=run.training.env_steps,
        seconds=run.training.seconds,
        session_s=time.perf_counter() - begin,
        session_env_steps=run.training.env_steps - steps_before,
        metrics=last,
        warnings=signs.warnings,
        signal=agreed.signal,
        callback=None if run.training.finished else calls.stopped_by,
    )


def _with_command(error: ProcessLost, run: Run, folder: Path | None) -> ProcessLost:
    again = "" if folder is None else f" To continue from the last checkpoint, type: {_again(run, folder)}"
    return ProcessLost(f"{error}{again}", error.exit_code)


def _again(run: Run, folder: Path | None) -> str:
    code = named_code.import_words(run.config.model_dump(mode="json"))
    return shlex.join(["flowrl", "train", "--resume", str(folder), *code])


class Agreement:
    """What all processes of a run know after each iteration, whichever of them a signal has reached."""

    def __init__(self, run: Run) -> None:
        self.signal: signal.Signals | None = None
        self._shards = run.shards

    def to_stop(self, number: signal.Signals | None, *, called: bool) -> bool:
        """Return whether a signal has reached any of all processes, or a callback has stopped the run (`called`)."""
        number, stopped = self._shards.largest(torch.tensor([number or 0, called])).tolist()
        self.signal = signal.Signals(number) if number else self.signal
        return bool(number or stopped)


def _finish_iteration(stop: StopSignal) -> None:
    """Let the iteration end at the first signal; quit at once at the second."""
    assert stop.last is not None  # noqa: S101  for the type checker
    if stop.count > 1:
        raise Stopped(stop.last)
    with suppress(RuntimeError):  # the signal came while a line was being written to stderr
        say(f"{stop.last.name}: finishing this iteration, then saving. Once more quits at once.")
