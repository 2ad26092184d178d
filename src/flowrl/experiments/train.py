"""Training a run in its folder: plan, train, save, stop and resume."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowrl.config import named_code, recipe
from flowrl.config import resume as changeable
from flowrl.config.schema import Config, composed, load
from flowrl.config.yaml_reader import dotted
from flowrl.contracts import user_code
from flowrl.contracts.errors import CheckpointError, Stopped, TrainingDiverged, UsageError
from flowrl.contracts.notices import say
from flowrl.experiments import callbacks, code_record, divergence, run_folder, warm_start
from flowrl.experiments.build import Run, check_sampler, import_code, load_config, saved_recipe
from flowrl.experiments.callbacks import Callback, CallbackFailed, Callbacks
from flowrl.experiments.saver import Saver
from flowrl.experiments.signals import StopSignal
from flowrl.experiments.warm_start import InitialWeights
from flowrl.reporting import jsonl, trackers
from flowrl.reporting.reporters import Reporters, open_reporters
from flowrl.storage import checkpoint
from flowrl.training.loop import Metrics
from flowrl.training.warning_signs import WarningSigns


@dataclass(frozen=True)
class TrainPlan:
    """A run to train: its configuration and, for a resume, its checkpoint and folder."""

    config: Config
    stem: str  # first part of the name of a new run folder
    content: dict[str, Any] | None = None  # of the checkpoint to continue from
    trained: Config | None = None  # the configuration in it
    path: Path | None = None  # of that checkpoint
    stamp: tuple[int, ...] = ()  # of that file, which a later save replaces
    initial: InitialWeights | None = None  # what a new run begins with, if not with new weights

    @property
    def folder(self) -> Path | None:
        """The folder of the run to continue."""
        return None if self.path is None else self.path.parent

    @property
    def is_finished(self) -> bool:
        """Whether the run to continue has spent its budget."""
        return self.content is not None and self.content["progress"]["env_steps"] >= self.config.total_steps


def plan(
    source: str | None,
    overrides: list[str],
    resume: Path | None,
    imports: Sequence[str] = (),
    called: Sequence[str] = (),
) -> TrainPlan:
    """Plan what `flowrl train` trains: the recipe `source` with overrides, or the run to `resume`.

    `imports` are files and modules to import, `called` the names of callbacks, besides those of the recipe or the run.
    Raises UsageError for a wrong recipe, CheckpointError for a checkpoint that cannot be read.
    """
    if resume is None:
        if source is None:
            names = ", ".join(recipe.shipped_names())
            raise UsageError(
                f"train needs a recipe: a YAML file or one of those shipped ({names}). "
                "Type: flowrl train gridworld.yaml"
            )
        written = named_code.with_imports(recipe.apply(recipe.read(source), overrides), imports)
        written = callbacks.with_options(written, called)
        config = load(written)
        import_code(config, written.checkpoint)
        check_sampler(config, composed(written))
        renamed = written.place(("env", "id")).is_override
        return planned_run(config, composed(written), config.env.id if renamed else Path(source).stem)
    if source is not None:
        raise UsageError(
            f"train --resume takes its configuration from the checkpoint: drop {source}. "
            f"Type: flowrl train --resume {resume} (and --set key=value to change a key)."
        )
    user_code.name_code(*imports, *called)  # before the checkpoint is read, whose files they may stand for
    path = checkpoint.find(resume)
    stamp = _stamp(path)
    content = checkpoint.load(path)
    _refuse_to_rewind(path, content)
    if content.get("distilled"):
        raise UsageError(
            f"{path} holds a distilled network, to which the state of the optimiser does not belong: it cannot be "
            f"resumed. Begin a new run with its weights: flowrl train RECIPE --init-from {path}"
        )
    trained = load_config(content, path)
    changed = named_code.with_imports(recipe.apply(saved_recipe(trained, path), overrides), imports)
    changed = callbacks.with_options(changed, called)
    config = changeable.changed_config(trained, changed, str(path.parent))
    import_code(config, str(path))
    check_sampler(config, changeable.blaming_overrides(changed))
    _check_extensions(config, changed)
    planned = TrainPlan(config, path.parent.name, content, trained, path, stamp)
    if planned.is_finished and config.model_copy(update={"imports": trained.imports}) != trained:
        _refuse_without_effect(trained, planned, changed)
    return planned


def _check_extensions(config: Config, source: recipe.Recipe) -> None:
    """Raise MissingDependency for a tracker that is not installed, UsageError for a callback that cannot be loaded."""
    trackers.check(config.trackers, str(source.place(("trackers",))))
    callbacks.check(config)


def planned_run(config: Config, source: recipe.Recipe, name: str) -> TrainPlan:
    """Plan a new run of `config`, whose composed recipe is `source`, named after an environment or a recipe (`name`).

    Raises what is wrong with its trackers, its callbacks, and the checkpoint that it begins with.
    """
    _check_extensions(config, source)
    if name == config.env.id:
        name = name.rsplit("/", 1)[-1].rpartition(":")[2]  # Reach of envs/reach.py:Reach
        name = re.sub(r"-v\d+$", "", name).lower()
    return TrainPlan(config, name, initial=warm_start.read(config, source))


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _refuse_to_rewind(path: Path, content: dict[str, Any]) -> None:
    """Raise UsageError when the run of the checkpoint `path` has a valid ckpt.pt with more steps."""
    latest = path.parent / checkpoint.LATEST
    if path.name == checkpoint.LATEST or not latest.is_file():
        return
    try:
        further = checkpoint.load(latest)["progress"]["env_steps"]
    except CheckpointError:
        return  # damaged: the older checkpoint is the only one left
    steps = content["progress"]["env_steps"]
    if further > steps:
        raise UsageError(
            f"{path} was saved after {steps:,} env steps and {latest} after {further:,}: resuming the former would "
            f"overwrite the latter and cut metrics.jsonl. Type: flowrl train --resume {path.parent} to continue from "
            f"the latest; or move {latest} away first, if you mean to go back."
        )


def _refuse_without_effect(trained: Config, planned: TrainPlan, changed: recipe.Recipe) -> None:
    """Raise UsageError, naming the key, for a change of a run that has nothing left to train."""
    assert planned.content is not None  # noqa: S101  for the type checker
    done, total = planned.content["progress"]["env_steps"], planned.config.total_steps
    found = changeable.changes(trained.model_dump(mode="json"), planned.config.model_dump(mode="json"))
    found = [change for change in found if change.path != named_code.IMPORTS]  # which name the run's own code
    place, key = changed.place(found[0].path).name, dotted(found[0].path)
    why = "is less than that" if total < done and key == "total_steps" else "would have no effect"
    raise UsageError(
        f"{place}: the run {planned.folder} has done {done:,} env steps already, so {key} {why}. Type --set "
        f"total_steps={2 * max(done, trained.total_steps)} or another number above {done} to train on."
    )


def resolved(planned: TrainPlan) -> str:
    """Return the complete configuration as YAML text."""
    return recipe.dump(planned.config)


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
    planned: TrainPlan, out: Path, name: str | None, *, quiet: bool = False, called: Sequence[Callback] = ()
) -> TrainResult:
    """Train until the budget is spent, a signal comes or a callback asks to stop, saving checkpoints meanwhile.

    `out` and `name` choose a new run's folder; `quiet` turns the progress output off; the callables `called` are
    callbacks besides those of the configuration. Nothing is written to the folder of a resumed run before its state is
    restored, and nothing at all where it is finished. Raises TrainingDiverged (the last good checkpoint stays),
    EnvironmentFailed, StorageError, UsageError (Locked while another process trains it).
    """
    if planned.is_finished:
        return _finished(planned)
    config, content, folder = planned.config, planned.content, planned.folder
    with ExitStack() as stack:
        if folder is not None:
            stack.callback(run_folder.lock(folder).release)
            _refuse_other_checkpoint(planned)
        run = Run(config)
        stack.callback(run.close)
        if folder is None or content is None:
            if (initial := planned.initial or warm_start.read(config)) is not None:
                warm_start.begin(run, initial)
            run.start()
            stem = f"{planned.stem}-{config.algorithm}-seed{config.seed}"
            folder, lock = run_folder.new(out, stem, name, resolved(planned))
            stack.callback(lock.release)
            offset, progress = None, None
        else:
            if inexact := run.restore(content):
                say(f"{folder} continues, but not bit for bit as without the interruption: {inexact}.")
            if _is_edited(folder / run_folder.CONFIG, planned.trained):
                path = folder / run_folder.CONFIG
                say(f"{path} differs from the checkpoint and is not read: change settings with --set.")
            for line in code_record.changes(content, planned.path or folder, config.model_dump(mode="json")):
                say(f"note: {line} The run continues with the present one.")
            offset, progress = int(content["metrics_offset"]), content["progress"]
        calls = callbacks.load(config, called)
        stack.callback(calls.close)
        heading = f"{folder}: {config.algorithm} on {config.env.id}, seed {config.seed}"
        reporters = stack.enter_context(
            open_reporters(
                folder,
                config.total_steps,
                heading=heading,
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
        return _train(run, folder, reporters, calls, is_new=content is None)


def _refuse_other_checkpoint(planned: TrainPlan) -> None:
    """Raise UsageError when another process has saved the run since its checkpoint was read."""
    assert planned.path is not None  # noqa: S101  for the type checker
    if _stamp(planned.path) != planned.stamp:
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


def _train(run: Run, folder: Path, reporters: Reporters, calls: Callbacks, *, is_new: bool) -> TrainResult:
    saver = Saver(run, folder, reporters, has_config=is_new)
    signs = WarningSigns()
    last: Metrics = {}
    begin, steps_before = time.perf_counter(), run.training.env_steps
    with StopSignal(_finish_iteration) as stop:

        def report(metrics: Metrics) -> None:
            last.update(metrics)
            reporters(int(metrics["iteration"]), metrics)
            saver.take(metrics)
            for line in signs.add(metrics):
                say(f"warning: after {int(metrics['env_steps']):,} env steps: {line}")
            calls(metrics)

        if is_new or reporters.missing:  # a run that is killed early continues from here, and from where its file ends
            saver.save()
        code_record.keep(folder, run.code)
        try:
            run.training.run(report, stop=lambda: bool(stop.signal or calls.stopped_by))
            saver.save()
        except CallbackFailed as error:
            saver.save()
            code = named_code.import_words(run.config.model_dump(mode="json"))
            again = shlex.join(["flowrl", "train", "--resume", str(folder), *code])
            raise CallbackFailed(f"{error} The run is saved: {again} continues it.") from error
        except TrainingDiverged as error:
            raise divergence.explained(error, run, folder) from error
    return TrainResult(
        folder=folder,
        env_steps=run.training.env_steps,
        seconds=run.training.seconds,
        session_s=time.perf_counter() - begin,
        session_env_steps=run.training.env_steps - steps_before,
        metrics=last,
        warnings=signs.warnings,
        signal=stop.signal,
        callback=None if run.training.finished else calls.stopped_by,
    )


def _finish_iteration(stop: StopSignal) -> None:
    """Let the iteration end at the first signal; quit at once at the second."""
    assert stop.last is not None  # noqa: S101  for the type checker
    if stop.count > 1:
        raise Stopped(stop.last)
    with suppress(RuntimeError):  # the signal came while a line was being written to stderr
        say(f"{stop.last.name}: finishing this iteration, then saving. Once more quits at once.")
