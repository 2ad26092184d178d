"""The space of a sweep: which keys of a recipe vary, and over which values.

A YAML file maps keys to ranges or choices, with dots or nested as in a recipe:

    learner.learning_rate: {low: 1e-4, high: 1e-2, log: true}
    learner.epochs: {low: 2, high: 10, step: 2}
    policy.hidden: {choices: [[64, 64], [128, 128]]}
    learner.surrogate: [ppo, spo, aspo]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowrl.config import recipe, validation, yaml_reader
from flowrl.config.recipe import Place, Recipe
from flowrl.config.schema import Config
from flowrl.config.suggestions import is_model, keys_of, other_key, types_of
from flowrl.config.yaml_reader import KeyPath, dotted
from flowrl.contracts.errors import UsageError
from flowrl.contracts.regular_files import read_bounded
from flowrl.contracts.settings import Settings

FORM = "{low: 1e-4, high: 1e-2, log: true}, or choices, as in [64, 128]"
OPEN_BLOCKS = (("env", "options"), ("sampler",))  # whose keys are not known beforehand
OPTIONS = {"seed": "--seeds", "total_steps": "--steps"}  # keys that an option of the sweep sets
MOST_KEYS, MOST_CHOICES = 100, 1000


class RangeSettings(Settings):
    """A range of numbers."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None


class ChoicesSettings(Settings):
    """A list of values."""

    choices: list[Any]


@dataclass(frozen=True)
class Dimension:
    """One key that varies: over `choices`, or from `low` to `high`."""

    key: str  # 'learner.learning_rate'
    place: Place
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False  # whether the values are whole numbers

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial takes here."""
        if self.choices:  # Optuna stores numbers, texts and null only
            return json.loads(trial.suggest_categorical(self.key, [json.dumps(choice) for choice in self.choices]))
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def stored(self, value: Any) -> Any:
        """Return a value as Optuna stores it; raises ValueError for one that is not in the space."""
        if self.choices:
            if value not in self.choices:
                raise ValueError
            return json.dumps(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError
        if self.step is not None and abs(steps := (value - self.low) / self.step) - round(steps) > 1e-9:
            raise ValueError
        return int(value) if self.whole else float(value)

    def value(self, stored: Any) -> Any:
        """Return the value of a recipe that Optuna has stored."""
        return json.loads(stored) if self.choices else stored

    def extremes(self) -> Sequence[Any]:
        """Return values to check beforehand: all choices, or the ends of the range."""
        ends = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return self.choices or ends


def read(path: Path, check: Callable[[str], None]) -> list[Dimension]:
    """Read the space in the file `path`; `check` raises UsageError for a 'key=value' that the recipe cannot have.

    Raises UsageError, with file, line and key, for a key that no recipe has, a range or a value that does not fit it.
    """
    try:
        data = read_bounded(path, yaml_reader.MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--space {path} cannot be read: {reason}. Name a YAML file of keys and {FORM}.") from error
    values, lines = yaml_reader.parse(data, str(path))
    source = Recipe(str(path), values, {at: Place(str(path), line, at) for at, line in lines.items()})
    space = list(_dimensions(source, values, (), ()))
    if not space:
        raise UsageError(f"{path}: there is no key in it. Write some with a range, as in learner.clip: {FORM}.")
    if len(space) > MOST_KEYS:
        raise UsageError(f"{path}: it has {len(space)} keys, and a sweep varies {MOST_KEYS} at most.")
    for number, dimension in enumerate(space):
        if dimension.key in (other.key for other in space[:number]):
            raise UsageError(f"{dimension.place}: {dimension.key} is there twice. Remove one.")
        for value in dimension.extremes():
            _check_value(dimension, value, check)
    return space


def overrides_of(space: Sequence[Dimension], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of the keys of `space` as 'key=value' of a recipe."""
    return tuple(f"{each.key}={json.dumps(values[each.key])}" for each in space)


def _check_value(dimension: Dimension, value: Any, check: Callable[[str], None]) -> None:
    override = f"{dimension.key}={json.dumps(value)}"
    try:
        check(override)
    except UsageError as error:
        reason = str(error).removeprefix(f"--set {override}").removeprefix(f", key {dimension.key}").removeprefix(": ")
        raise UsageError(f"{dimension.place}: the value {json.dumps(value)} does not fit: {reason}") from error


def _dimensions(source: Recipe, block: Any, at: KeyPath, key: KeyPath) -> Iterator[Dimension]:
    """Yield the dimensions in a `block` at the path `at` of the file, whose keys lie below `key` of a recipe."""
    for name, value in block.items():
        place, path = (*at, name), (*key, *str(name).split("."))
        if isinstance(value, dict) and not {"low", "high", "choices"} & value.keys():
            yield from _dimensions(source, value, place, path)
        else:
            yield _dimension(source, value, place, path)


def _dimension(source: Recipe, value: Any, at: KeyPath, path: KeyPath) -> Dimension:
    place = source.place(at)
    types = _types(path, place)
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise UsageError(f"{place}: expected a range, as in {FORM}, got {validation.shown(value)}.")
    inside = replace(
        source,
        values=value,
        name=str(place),  # of what is missing in the block
        places={
            known[len(at) :]: where
            for known, where in source.places.items()
            if known[: len(at)] == at and len(known) > len(at)
        },
    )
    if "choices" in value:
        return _choices(recipe.validate(ChoicesSettings, inside), dotted(path), place)
    return _range(recipe.validate(RangeSettings, inside), dotted(path), place, types)


def _choices(settings: ChoicesSettings, key: str, place: Place) -> Dimension:
    written = [json.dumps(choice) for choice in settings.choices]
    if len(set(written)) < 2 or len(set(written)) < len(written):
        raise UsageError(
            f"{place}: expected two or more choices that differ, got {validation.shown(settings.choices)}."
        )
    if len(written) > MOST_CHOICES:
        raise UsageError(f"{place}: {len(written)} choices, and there may be {MOST_CHOICES} at most.")
    return Dimension(key, place, tuple(settings.choices))


def _range(settings: RangeSettings, key: str, place: Place, types: tuple[Any, ...]) -> Dimension:
    low, high, step = settings.low, settings.high, settings.step
    if not types:  # an option of an environment or a sampler: as the numbers are written
        types = (int,) if all(isinstance(number, int) for number in (low, high, step or 0)) else (float,)
    whole = int in types and float not in types
    if not {int, float} & set(types):
        raise UsageError(f"{place}: {key} is not a number, so it has no range. Give its values: choices: [...].")
    if low >= high:
        raise UsageError(f"{place}: low is {low:g} and high is {high:g}: low must be less.")
    if settings.log and (low <= 0 or step is not None):
        what = "low must be > 0" if low <= 0 else "there are no steps"
        raise UsageError(f"{place}: on a logarithmic scale (log: true) {what}.")
    if step is not None and not 0 < step <= high - low:
        raise UsageError(f"{place}: step is {step:g}: it must be > 0, and at most high - low.")
    if whole and any(number != int(number) for number in (low, high, step or 0)):
        raise UsageError(f"{place}: {key} is a whole number, so low, high and step must be, too.")
    return Dimension(key, place, (), low, high, settings.log, step, whole)


def _types(path: KeyPath, place: Place) -> tuple[Any, ...]:
    """Return the types of the key at `path` of a recipe, () where they are not known; raises UsageError for no key."""
    known = set(keys_of(Config))
    open_block = any(path[: len(block)] == block and len(path) == len(block) + 1 for block in OPEN_BLOCKS)
    if path not in known and not open_block:
        here = [str(key[-1]) for key in known if key[:-1] == path[:-1]]
        raise UsageError(
            f"{place}: {dotted(path)} is no key of a recipe. "
            f"{other_key(Config, path, here, dotted_names=True) or 'docs/configuration.md lists them.'}"
        )
    if (option := OPTIONS.get(dotted(path))) is not None:
        raise UsageError(f"{place}: the trials of a sweep get their {dotted(path)} from {option}.")
    if any(key[: len(path)] == path and len(key) > len(path) for key in known):
        raise UsageError(f"{place}: {dotted(path)} is a block of keys. Name the keys in it that vary.")
    return () if path not in known else _types_at(path)


def _types_at(path: KeyPath) -> tuple[Any, ...]:
    types: tuple[Any, ...] = (Config,)
    for step in path:
        fields = [choice.model_fields[step] for choice in types if is_model(choice) and step in choice.model_fields]
        types = tuple(inner for field in fields for inner in types_of(field.annotation)[0])
    return types
