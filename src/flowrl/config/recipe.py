"""A recipe: the YAML text a user writes, changed by `--set`, and checked against the settings it fills.

The place of every value is kept, so that an error in it, found now or later, is reported with file, line and key,
or with the `--set` that it comes from.
"""

import copy
import errno
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flowrl.config import foreign, validation, yaml_reader
from flowrl.config.yaml_reader import KeyPath, dotted
from flowrl.contracts import regular_files
from flowrl.contracts.errors import UsageError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
RECIPES = Path(__file__).parent / "recipes"
_MOST_MESSAGES = 3  # beside the first
_MOST_UNKNOWN = 5  # the same, where all are of unknown keys


@dataclass(frozen=True)
class Place:
    """The place where a value was written."""

    name: str  # a file, or the words of the command line: '--set learner.clip=0.1', '--sampler heun'
    line: int | None  # None for the command line
    key: KeyPath  # the key as it is written there, such as ('fpo++', 'learner', 'clip')
    is_around: bool = False  # a block that nobody wrote, made around a key of `--set`

    @property
    def is_override(self) -> bool:
        """Whether the value comes from the command line."""
        return self.name.startswith("--")

    def __str__(self) -> str:
        line = "" if self.line is None else f" line {self.line}"
        return f"{self.name}{line}" + (f", key {dotted(self.key)}" if self.key else "")


@dataclass(frozen=True)
class Recipe:
    """Plain values (dict, list, text, number, boolean, None) and the places where they were written."""

    name: str  # for messages: the path as typed, or the name of a shipped recipe
    values: dict[str, Any]
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    checkpoint: str = ""  # the file of a run that it comes from, if any: no code that only this names is run

    def place(self, path: KeyPath) -> Place:
        """Return where the value at `path` was written, or, when it was not, the nearest block around it."""
        for length, around in self._places_around(path):
            return Place(around.name, around.line, (*around.key, *path[length:]))
        return Place(self.name, None, path)

    def is_overridden(self, path: KeyPath) -> bool:
        """Return whether `--set` wrote the value at `path`, or a whole block around it; not another key beside it."""
        return next((each.is_override for _, each in self._places_around(path) if not each.is_around), False)

    def _places_around(self, path: KeyPath) -> Iterator[tuple[int, Place]]:
        """Find the places of the value at `path` and of the blocks around it, the nearest first, each after the length
        of its own path."""
        for length in range(len(path), 0, -1):
            if (place := self.places.get(path[:length])) is not None:
                yield length, place


def read(source: str | Path) -> Recipe:
    """Read the recipe in the file `source`, or, when there is no such file, the shipped recipe of that name.

    The config.yaml of a run counts as a `checkpoint`. Raises UsageError when there is neither, or when the text is not
    strict YAML (see `flowrl.config.yaml_reader`).
    """
    try:
        data = regular_files.read_bounded(Path(source), yaml_reader.MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, regular_files.UnsuitableFile) and error.kind != regular_files.FOLDER:
            raise UsageError(f"{source} cannot be read as a recipe: {error}. Name a text file.") from None
        shipped = _shipped()
        name = next((name for name in (str(source), f"{source}.yaml") if name in shipped), None)
        if name is None:
            raise UsageError(_unreadable(str(source), error)) from None
        return parse(shipped[name].read_bytes(), name)
    written = parse(data, str(source))
    return replace(written, checkpoint=str(source)) if _is_of_run(Path(source)) else written


def _is_of_run(path: Path) -> bool:
    """Return whether a file is the config.yaml of a run, which may come from somebody else as its checkpoint may."""
    beside = ("ckpt.pt", "best.pt", "metrics.jsonl")
    return path.name == "config.yaml" and any((path.parent / name).exists() for name in beside)


def parse(data: bytes, name: str) -> Recipe:
    """Parse the recipe in `data`, which messages call `name`.

    Raises UsageError, which names the tool where the text is a recipe of another one: its tags and aliases are not
    what is wrong with it.
    """
    try:
        values, lines = yaml_reader.parse(data, name)
    except UsageError:
        from flowrl.config.schema import Config  # here: it imports this module, and torch, which reading does not need

        text = data[: yaml_reader.MAX_BYTES].decode(errors="replace")
        if explanation := foreign.explanation(Config, foreign.keys_in_text(text)):
            raise UsageError(f"{name}: {explanation}") from None
        raise
    return Recipe(name, values, {path: Place(name, line, path) for path, line in lines.items()})


def shipped_names() -> list[str]:
    """Return the names of the recipes in the package, such as 'gridworld.yaml', sorted."""
    return sorted(_shipped())


def in_folder(source: str) -> list[str]:
    """Return the recipes in the folder `source`, or, when there is no such folder, in that of the shipped recipes; a
    name that is no folder is returned as it is."""
    if Path(source).is_dir():
        return sorted(str(path) for path in Path(source).glob("*.yaml")) or [source]
    return [name for name in shipped_names() if name.startswith(f"{source.rstrip('/')}/")] or [source]


def shipped_by_environment() -> dict[str, str]:
    """Map environment ids to recipes in the package: outside folders first, then the shortest name."""
    found: dict[str, str] = {}
    for name, file in sorted(_shipped().items(), key=lambda item: ("/" in item[0], len(item[0]), item[0])):
        env = parse(file.read_bytes(), name).values.get("env")
        found.setdefault(str(env.get("id") if isinstance(env, dict) else env), name)
    return found


def apply(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """Return the recipe with each 'key.path=value' set, in order; the values are YAML: 0.1, [64, 64], null, text.

    Raises UsageError, with the override, when it is not of that form or its key lies below a plain value.
    Keys that do not exist are found by `validate`.
    """
    values, places = copy.deepcopy(recipe.values), dict(recipe.places)
    for override in overrides:
        name = f"--set {yaml_reader.shorten(override, 100)}"
        path, value = _override(override, name)
        block = values
        for depth, step in enumerate(path[:-1], start=1):
            if block.get(step) is None:
                block[step] = {}
                places[path[:depth]] = Place(name, None, path[:depth], is_around=True)
            block = block[step]
            if not isinstance(block, dict):
                above = f"{dotted(path[:depth])} is {validation.shown(block)}"
                raise UsageError(f"{name}: {above}, so there are no keys to set below it.")
        block[path[-1]] = value
        _forget(places, path)
        places |= {below: Place(name, None, below) for below in _paths(value, path)}
    return Recipe(recipe.name, values, places, recipe.checkpoint)


def tuned_for_another_environment(source: str, overrides: Iterable[str]) -> str:
    """Return a warning where `overrides` replace the environment that the recipe `source` was written for, or ''."""
    written = read(source)
    before, after = (_environment(each) for each in (written, apply(written, overrides)))
    if before is None or after is None or before == after:
        return ""
    shipped = {_without_version(id): name for id, name in shipped_by_environment().items()}
    own = shipped.get(_without_version(after))
    advice = f"Type flowrl train {own}, which was tuned for that environment" if own else "Tune them to it"
    return (
        f"warning: {written.name} was tuned for {before}, and {after} is trained with its settings, which may be far "
        f"from good ones there. {advice}."
    )


def _environment(recipe: Recipe) -> str | None:
    env = recipe.values.get("env")
    id = env.get("id") if isinstance(env, dict) else None
    return id if isinstance(id, str) else None


def _without_version(id: str) -> str:
    return re.sub(r"-v\d+$", "", id)


def layered(recipe: Recipe, sections: Collection[str], chosen: str, below: Mapping[str, Any] | None = None) -> Recipe:
    """Merge the section `chosen` of the recipe over its other keys, and these over the preset `below`.

    `sections` are the root keys that are such sections; none of them is left. Blocks are merged key by key,
    lists and plain values replaced. What `--set` wrote outside the sections stays: the command line
    takes precedence. Places follow their values.
    """
    section = recipe.values.get(chosen)
    if section is not None and not isinstance(section, dict):
        raise UsageError(f"{recipe.place((chosen,))}: expected a block of keys, got {validation.shown(section)}.")
    values: dict[str, Any] = copy.deepcopy(dict(below or {}))
    places = {path: place for path, place in recipe.places.items() if path[0] not in sections}
    for path, value in leaves({key: own for key, own in recipe.values.items() if key not in sections}):
        _put(values, path, value)
    for path, value in leaves(section or {}):
        inside = (chosen, *path)
        if recipe.is_overridden(path) and not recipe.place(inside).is_override:
            continue
        _put(values, path, value)
        for length in range(1, len(path)):
            places.setdefault(path[:length], recipe.place(inside[: length + 1]))
        _forget(places, path)
        places |= {key[1:]: place for key, place in recipe.places.items() if key[: len(inside)] == inside}
    return Recipe(recipe.name, values, places, recipe.checkpoint)


def validate(model: type[Model], recipe: Recipe) -> Model:
    """Create the settings `model` from the recipe's values.

    Raises UsageError: one paragraph with the place, the key, what is wrong, and what would be right.
    """
    try:
        return model.model_validate(recipe.values)
    except ValidationError as error:
        found = _messages(model, recipe, error)
    written = [str(path[-1]) for path, place in recipe.places.items() if not place.is_override]
    if explanation := foreign.explanation(model, written):
        raise UsageError(f"{recipe.name}: {explanation}")
    raise UsageError(_paragraph(recipe, found))


def check_section(model: type[BaseModel], recipe: Recipe, section: str) -> None:
    """Raise UsageError when a key that was written in the root section `section` does not fit `model`.

    `recipe` is layered with that section, which the run itself may not use.
    """
    try:
        model.model_validate(recipe.values)
    except ValidationError as error:
        found = _messages(model, recipe, error)
        own = [each for each in found if recipe.place(each.path).key[:1] == (section,)]
        if own:
            raise UsageError(_paragraph(recipe, own)) from None


def _messages(model: type[BaseModel], recipe: Recipe, error: ValidationError) -> list[validation.ValidationMessage]:
    return validation.messages(model, recipe.values, error, lambda path: recipe.place(path).is_override)


def _paragraph(recipe: Recipe, found: list[validation.ValidationMessage]) -> str:
    """Join the messages in the recipe's order, missing keys last, the first message in full."""
    found.sort(key=lambda each: (each.kind == "missing", recipe.place(each.path).line or 0))
    paragraph = f"{recipe.place(found[0].path)}: {found[0]}"
    if further := [f"{recipe.place(each.path)}: {each.brief}" for each in found[1:]]:
        most = _MOST_UNKNOWN if all(each.kind == "unknown" for each in found) else _MOST_MESSAGES
        more = "; ".join(further[:most]) + ("; …" if len(further) > most else "")
        paragraph += f" And {len(further)} more: {more}."
    return paragraph


def dump(settings: BaseModel) -> str:
    """Return all settings as YAML text in the order of the models; reading it gives equal settings."""
    return yaml_reader.write(settings.model_dump())


def _shipped() -> dict[str, Path]:
    """Find the recipes in the package, by their names, such as 'paper/cartpole.yaml'."""
    return {path.relative_to(RECIPES).as_posix(): path for path in RECIPES.rglob("*.yaml")}


def _unreadable(source: str, error: OSError | ValueError) -> str:
    """Explain why no recipe could be read from `source`, with the nearest in the package, or else a list of them."""
    if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return f"{source!r} cannot be read: {error.strerror}."
    is_folder = isinstance(error, regular_files.UnsuitableFile)
    shipped = shipped_names()
    near = did_you_mean(source, [*shipped, *(name.removesuffix(".yaml") for name in shipped)])
    advice = near or f" Those are: {', '.join(shipped) or 'none'}."
    what = "a folder, and not" if is_folder else "not a file, nor"
    return f"{source!r} is {what} a recipe that comes with flowrl.{advice}"


def _override(text: str, name: str) -> tuple[tuple[str, ...], Any]:
    """Split 'key.path=value' into key path and value."""
    key, equals, value = text.partition("=")
    path = tuple(step.strip() for step in key.split("."))
    if not equals:
        raise UsageError(f"{name}: there is no '='. Write --set key.path=value, such as --set learner.clip=0.1.")
    if len(path) > yaml_reader.MAX_LEVELS:
        raise UsageError(f"{name}: the key is more than {yaml_reader.MAX_LEVELS} levels deep.")
    if not all(path):
        raise UsageError(f"{name}: the key before '=' is not complete. Write it as in --set learner.clip=0.1.")
    return path, yaml_reader.parse_value(value, name)


def _put(values: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set the value at `path`; a plain value on the way becomes a block."""
    *blocks, last = map(str, path)
    for step in blocks:
        if not isinstance(values.get(step), dict):
            values[step] = {}
        values = values[step]
    values[last] = value


def leaves(block: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield a copy of every value that is not a block with keys, and its path."""
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), copy.deepcopy(value)


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the path of the value and of everything inside it."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inside:
        yield from _paths(item, (*path, step))


def _forget(places: dict[KeyPath, Place], path: KeyPath) -> None:
    for old in [known for known in places if known[: len(path)] == path]:
        del places[old]
