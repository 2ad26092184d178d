"""What a training trains: a recipe, or a run to resume, checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.config import named_code, recipe
from flowrl.config import resume as changeable
from flowrl.config.schema import Config, composed, load
from flowrl.config.yaml_reader import dotted
from flowrl.contracts import user_code
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.experiments import callbacks, warm_start
from flowrl.experiments.build import check_sampler, import_code, load_config, saved_recipe
from flowrl.experiments.warm_start import InitialWeights
from flowrl.reporting import trackers
from flowrl.storage import checkpoint


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
    stamp = stamp_of(path)
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


def stamp_of(path: Path) -> tuple[int, ...]:
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
