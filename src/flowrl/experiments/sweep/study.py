"""The study of a sweep: its trials in a journal in the sweep's folder, and what they have shown.

Optuna (Akiba et al. 2019, arXiv 1907.10902) proposes the values, with its tree-structured Parzen estimator (Bergstra et
al. 2011), keeps the trials, and prunes. Its journal is a file to which every change is appended as a line: a sweep that
is killed at any instant continues from it, and several machines may share it. A study that was begun in an SQLite
database, as older versions did, continues there; one process at a time then works on it.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.config import named_code, recipe, yaml_reader
from flowrl.config import schema as settings
from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.contracts.installing import reinstall
from flowrl.contracts.notices import say
from flowrl.experiments.sweep.space import Dimension, overrides_of
from flowrl.storage.files import write_text

JOURNAL, BEST = "study.journal", "best.yaml"
DATABASE = "study.db"  # of an older version
NAME = "flowrl"
PRUNERS = ("none", "median", "hyperband")
WARM_UP = 20  # percent of a trial's budget before the median pruner judges it
MOST_LISTED = 10


@dataclass(frozen=True)
class SweepOptions:
    """The options of `flowrl sweep`."""

    recipe: str  # as typed
    space: tuple[Dimension, ...]
    trials: int
    seeds: tuple[int, ...]
    out: Path
    steps: int | None = None
    overrides: tuple[str, ...] = ()
    episodes: int = 64
    pruner: str = "none"
    seed: int = 0  # of the proposals
    imports: tuple[str, ...] = ()  # files and modules to import, besides those of the recipe

    @property
    def fixed(self) -> dict[str, Any]:
        """What has to be equal when a sweep continues: its trials would not be comparable otherwise."""
        space = [f"{each.key} {each.extremes()!r} {each.log} {each.step}" for each in self.space]
        source = json.dumps(recipe.read(self.recipe).values, sort_keys=True)
        return {
            "recipe": self.recipe,
            "content of the recipe": hashlib.sha256(source.encode()).hexdigest()[:12],
            "space": "; ".join(space),
            "seeds": ",".join(map(str, self.seeds)),
            "steps": self.steps,
            "set": " ".join(self.overrides),
            "episodes": self.episodes,
            "pruner": self.pruner,
        } | ({"import": " ".join(self.imports)} if self.imports else {})

    @property
    def base(self) -> tuple[str, ...]:
        """What all trials set: 'total_steps=20000' and the --sets."""
        steps = () if self.steps is None else (f"total_steps={self.steps}",)
        return (*steps, *self.overrides)


def optuna() -> Any:
    """Import Optuna, without its messages; raises MissingDependency."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"flowrl sweep needs the package optuna, which is not installed. Type: {reinstall('sweep')}"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(options: SweepOptions, parallel: int) -> Any:
    """Open the study in the folder of the sweep, which another session may have begun, or begin it.

    The first trial of a new one is the recipe as it is. Raises UsageError where it was begun with other options.
    """
    library = optuna()
    options.out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = library.create_study(
            storage=_storage(library, options.out),
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(library, options.pruner),
        )
    # a continued session must not draw the numbers of the first one again
    study.sampler = proposals(options, len(study.trials), liar=parallel > 1 or is_shared(options.out))
    _refuse_other_options(study, options)
    if not study.trials:
        _enqueue_the_recipe(study, options)
    return study


def proposals(options: SweepOptions, number: int, *, liar: bool) -> Any:
    """Return what proposes the values, for a study of `number` trials; with `liar` it avoids those of running trials.

    For trials that are made one after the other, `liar` changes nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna().samplers.TPESampler(seed=(options.seed + number) % 2**32, constant_liar=liar)


def is_shared(out: Path) -> bool:
    """Return whether several processes may work on the sweep in `out`: not on one in an SQLite database."""
    return not (out / DATABASE).is_file()


def _storage(library: Any, out: Path) -> Any:
    """Return the journal in `out`, without a last line that a power cut has torn; or the database of an older version.

    Its lock is a file that is created only where there is none, so it holds on a network drive as well.
    """
    if not is_shared(out):
        return f"sqlite:///{(out / DATABASE).resolve()}"
    from optuna.storages import journal

    path = out / JOURNAL
    guard = journal.JournalFileOpenLock(str(path))
    backend = journal.JournalFileBackend(str(path), lock_obj=guard)
    guard.acquire()
    try:
        with path.open("rb+") as file:
            whole = file.read()
            file.truncate(whole.rfind(b"\n") + 1)
    finally:
        guard.release()
    return library.storages.JournalStorage(backend)


def _pruner(library: Any, name: str) -> Any:
    if name == "median":
        return library.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=WARM_UP)
    if name == "hyperband":
        return library.pruners.HyperbandPruner(min_resource=5, max_resource=100, reduction_factor=3)
    return library.pruners.NopPruner()


def _refuse_other_options(study: Any, options: SweepOptions) -> None:
    before, now = study.user_attrs.get("options"), options.fixed
    if before is None:
        study.set_user_attr("options", now)
        return
    if differing := [name for name in before | now if before.get(name) != now.get(name)]:
        shown = "; ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in differing[:3])
        raise UsageError(
            f"{options.out} holds a sweep with other options: {shown}. Its trials would not be comparable: choose "
            "another --out."
        )


def _enqueue_the_recipe(study: Any, options: SweepOptions) -> None:
    """Let the first trial have the values of the recipe itself, as far as they are in the space."""
    config = settings.load(recipe.apply(recipe.read(options.recipe), options.base)).model_dump(mode="json")
    own, outside = {}, []
    for dimension in options.space:
        value: Any = config
        for step in dimension.key.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        try:
            own[dimension.key] = dimension.stored(value)
        except ValueError:
            outside.append(f"{dimension.key} {json.dumps(value)}")
    if outside:
        say(f"the recipe's own {', '.join(outside)} is not in the space, so no trial is the recipe as it is.")
    study.enqueue_trial(own)


def best_recipe(options: SweepOptions, values: Mapping[str, Any]) -> str:
    """Return the recipe with the `values` of a trial as YAML text, for `flowrl train`."""
    overrides = (*options.base, *overrides_of(options.space, values))
    written = recipe.apply(recipe.read(options.recipe), overrides)
    merged = settings.composed(named_code.with_imports(written, options.imports))
    return yaml_reader.write({"algorithm": settings.load(merged).algorithm} | merged.values)


def write_best(study: Any, options: SweepOptions) -> Path | None:
    """Write the recipe of the best trial to best.yaml; None where no trial is finished."""
    if (best := best_trial(study)) is None:
        return None
    head = (
        f"# The best of {sum(trial.value is not None for trial in study.trials)} finished trials of `flowrl sweep "
        f"{Path(options.recipe).name}`: trial {best.number}, mean return {best.value:.6g}\n"
        f"# ({len(options.seeds)} seeds, {options.episodes} evaluation episodes each). As the largest of many noisy "
        "means it is too high on average:\n# train it with other seeds to measure it.\n"
    )
    path = options.out / BEST
    write_text(path, head + best_recipe(options, values_of(best, options.space)))
    return path


def best_trial(study: Any) -> Any | None:
    """Return the finished trial with the largest mean return; None where there is none."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)


def values_of(trial: Any, space: Sequence[Dimension]) -> dict[str, Any]:
    """Return key -> value of a trial, as a recipe has them."""
    return {each.key: each.value(trial.params[each.key]) for each in space if each.key in trial.params}


def importance(study: Any) -> dict[str, float]:
    """Return the share of each key in how good the finished trials were, largest first; {} where too few are.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255): how much the values of a key among the best tenth of the trials
    differ in distribution from those of all.
    """
    library = optuna()
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(finished) < 4 or len({trial.value for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = library.importance.PedAnovaImportanceEvaluator()
        try:
            shares = library.importance.get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError):  # a key that had one value only, or too few trials for it
            return {}
    return {key: float(share) for key, share in shares.items()}
