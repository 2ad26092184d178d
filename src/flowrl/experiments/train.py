"""Training a run in its folder: plan, train, save, stop and resume."""

from __future__ import annotations

import re
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flowrl.config import fingerprint, recipe
from flowrl.config.schema import Config, composed, load
from flowrl.contracts.errors import CheckpointError, StorageError, TrainingDiverged, UsageError
from flowrl.experiments.build import Run, check_sampler, load_config, refuse_file_sampler
from flowrl.experiments.signals import StopSignal
from flowrl.reporting.reporters import Reporters, open_reporters
from flowrl.storage import checkpoint
from flowrl.storage.files import write_text
from flowrl.training.loop import Metrics


@dataclass(frozen=True)
class TrainPlan:
    """A run to train: its configuration and, for a resume, its checkpoint and folder."""

    config: Config
    stem: str  # first part of the name of a new run folder
    content: dict[str, Any] | None = None  # of the checkpoint to continue from
    folder: Path | None = None  # of the run to continue


def plan(source: str | None, overrides: list[str], resume: Path | None) -> TrainPlan:
    """Plan what `flowrl train` trains: the recipe `source` with overrides, or the run to `resume`.

    Raises UsageError for a wrong recipe, CheckpointError for a checkpoint that cannot be read.
    """
    if resume is None:
        if source is None:
            names = ", ".join(recipe.shipped_names())
            raise UsageError(
                f"train needs a recipe: a YAML file or one of those shipped ({names}). "
                "Type: flowrl train gridworld.yaml"
            )
        written = recipe.apply(recipe.read(source), overrides)
        config = load(written)
        check_sampler(config, composed(written))
        return TrainPlan(config, _stem(config, Path(source).stem, renamed=written.place(("env", "id")).is_override))
    if source is not None:
        raise UsageError(
            f"train --resume takes its configuration from the checkpoint: drop {source}. "
            f"Type: flowrl train --resume {resume} (and --set key=value to change a key)."
        )
    path = checkpoint.find(resume)
    content = checkpoint.load(path)
    _refuse_to_rewind(path, content)
    trained = load_config(content)
    changed = recipe.apply(recipe.Recipe(str(path), trained.model_dump(mode="json")), overrides)
    if not changed.place(("sampler", "name")).is_override:
        refuse_file_sampler(trained, path, f"--set sampler.name={trained.sampler.name}")
    config = recipe.validate(Config, changed)
    check_sampler(config, changed)
    _refuse_another_environment(trained, config, path.parent)
    return TrainPlan(config, path.parent.name, content, path.parent)


def _stem(config: Config, recipe_name: str, *, renamed: bool) -> str:
    """Return the recipe's name, or that of the environment when --set replaced it (`renamed`)."""
    return re.sub(r"-v\d+$", "", config.env.id.rsplit("/", 1)[-1]).lower() if renamed else recipe_name


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


def _refuse_another_environment(was: Config, now: Config, folder: Path) -> None:
    """Raise UsageError when the run in `folder` would continue in another or a changed environment."""
    before, after = (
        fingerprint.experiment_settings({"env": config.env.model_dump(mode="json")}) for config in (was, now)
    )
    for key in (before | after).keys() - {"env.mode"}:
        if before.get(key) != after.get(key):
            raise UsageError(
                f"--set {key}: the run {folder} was trained with {before.get(key, 'nothing')}, and its networks "
                f"and running episodes depend on it. Leave out --set {key}, or start a new run."
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
    signal: signal.Signals | None  # that stopped it early

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document of `flowrl train --json`."""
        return {
            "run": str(self.folder),
            "checkpoint": str(self.folder / checkpoint.LATEST),
            "env_steps_per_s": self.env_steps / self.seconds if self.seconds else None,
            "stopped_by": self.signal.name if self.signal else None,
            **{name: value for name, value in asdict(self).items() if name not in ("folder", "signal")},
        }

    def summary(self) -> str:
        """Return the result in one line."""
        names = {"return_mean": "return", "success_rate": "success", "length_mean": "length"}
        means = [f"{names[key]} {self.metrics[key]:.4g}" for key in names if key in self.metrics]
        rate = self.env_steps / self.seconds if self.seconds else 0.0
        parts = [f"{self.env_steps:,} env steps in {self.seconds:.1f} s ({rate:,.0f}/s)", *means]
        return f"{self.folder}: " + ", ".join(parts)


def train(planned: TrainPlan, out: Path, name: str | None, *, quiet: bool = False) -> TrainResult:
    """Train until the budget is spent or a signal comes, saving checkpoints meanwhile.

    `out` and `name` choose a new run's folder; `quiet` turns the progress output off. Raises TrainingDiverged (the
    last good checkpoint stays), EnvironmentFailed, StorageError, UsageError.
    """
    config, content = planned.config, planned.content
    run = Run(config)
    folder = planned.folder or _new_folder(out, name, planned)
    try:
        checkpoint.clean(folder)
        write_text(folder / "config.yaml", resolved(planned))
        if content is None:
            run.start()
        else:
            run.restore(content)
        offset = None if content is None else int(content["metrics_offset"])
        heading = f"{folder}: {config.algorithm} on {config.env.id}, seed {config.seed}"
        steps = run.training.env_steps
        with open_reporters(
            folder, config.total_steps, heading=heading, offset=offset, env_steps=steps, quiet=quiet
        ) as reporters:
            return _train(run, folder, reporters)
    finally:
        run.env.close()


def _train(run: Run, folder: Path, reporters: Reporters) -> TrainResult:
    saver = Saver(run, folder, reporters)
    last: Metrics = {}
    begin, steps_before = time.perf_counter(), run.training.env_steps
    with StopSignal(_finish_iteration, signal.SIGTERM) as stop:

        def report(metrics: Metrics) -> None:
            last.update(metrics)
            reporters(int(metrics["iteration"]), metrics)
            saver.take(metrics)

        try:
            run.training.run(report, stop=lambda: stop.signal is not None)
        except TrainingDiverged as error:
            raise _diverged(error, run, folder) from error
        saver.save()
    return TrainResult(
        folder=folder,
        env_steps=run.training.env_steps,
        seconds=run.training.seconds,
        session_s=time.perf_counter() - begin,
        session_env_steps=run.training.env_steps - steps_before,
        metrics=last,
        signal=stop.signal,
    )


class Saver:
    """Saves ckpt.pt every `checkpoint.every_s` seconds, and best.pt after the window with the best returns so far."""

    def __init__(self, run: Run, folder: Path, reporters: Reporters) -> None:
        self._run = run
        self._folder = folder
        self._reporters = reporters
        self._saved_at = time.monotonic()
        self._warned = False
        self._warn()

    def take(self, metrics: Metrics) -> None:
        """Add the metrics of an iteration, and save when it is time."""
        settings, best = self._run.config.checkpoint, self._run.best
        best.add(metrics.get("return_mean", 0.0), int(metrics["episodes"]))
        over = settings.best_over
        if over and (metrics["iteration"] % over == 0 or self._run.training.finished) and best.close():
            self.save(checkpoint.BEST)
        if time.monotonic() - self._saved_at >= settings.every_s:
            self.save()

    def save(self, name: str = checkpoint.LATEST) -> None:
        """Save the run as the checkpoint `name` of its folder."""
        content = self._run.content(self._reporters.offset)
        if name == checkpoint.BEST:  # the returns that chose it were theirs, not those of their moving average
            content["evaluation_weights"] = "actor"
        checkpoint.save(self._folder / name, content)
        self._warn()
        if name == checkpoint.LATEST:
            self._saved_at = time.monotonic()

    def _warn(self) -> None:
        """Print, once, that a resume will not be exact, which shows at the first reset or at a later save."""
        env = self._run.env
        if env.exact_resume or self._warned:
            return
        self._warned = True
        _notify(
            f"the state of {env.settings.id} cannot be saved ({env.inexact_because}): a resume of this run is not "
            "exact, it will start new episodes."
        )


def _finish_iteration(stop: StopSignal) -> None:
    """Let the iteration end at the first signal; quit at once at the second."""
    if stop.count > 1 or stop.signal is None:
        raise KeyboardInterrupt
    _notify(f"{stop.signal.name}: finishing this iteration, then saving. Once more quits at once.")


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _new_folder(out: Path, name: str | None, planned: TrainPlan) -> Path:
    """Create the run's folder: `out/name`, or a free name made of recipe, algorithm and seed."""
    config = planned.config
    folder = out / (name or f"{planned.stem}-{config.algorithm}-seed{config.seed}")
    number = 1
    while folder.exists() and any(folder.iterdir()):
        if name is not None:
            raise UsageError(
                f"{folder} holds a run already. Continue it with: flowrl train --resume {folder}; or choose "
                "another --name."
            )
        number += 1
        folder = out / f"{planned.stem}-{config.algorithm}-seed{config.seed}-{number}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}. Choose another folder with --out.") from error
    return folder


def _diverged(error: TrainingDiverged, run: Run, folder: Path) -> TrainingDiverged:
    """Add to the error the iteration, the file of the offending tensors, and what to do next."""
    place = f"in iteration {run.training.iteration + 1}, after {run.training.env_steps:,} env steps"
    advice = ""
    offending = getattr(error, "offending", None)
    if offending:
        path = folder / "diverged.pt"
        with suppress(OSError):
            torch.save(offending, path)
            advice = f" The offending batch is in {path}."
        advice += " A smaller learner.learning_rate or learner.clip usually helps."
    latest = folder / checkpoint.LATEST
    good = f" The last good checkpoint is {latest}." if latest.exists() else ""
    return TrainingDiverged(f"training stopped {place}: {str(error).removesuffix('.')}.{advice}{good}")
