"""What a resumed run may change: the marks of the settings (`AtResume`), read for every key, and enforced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowrl.config import fitted_file, named_code, recipe, validation
from flowrl.config.policy_kinds import POLICY_KINDS
from flowrl.config.recipe import Recipe
from flowrl.config.schema import Config
from flowrl.config.suggestions import is_model, keys_of, types_of
from flowrl.config.yaml_reader import KeyPath, dotted
from flowrl.contracts.errors import UsageError
from flowrl.contracts.settings import AtResume

UNMARKED = AtResume(changeable=False, reason="it belongs to the run")


@dataclass(frozen=True)
class Change:
    """A key with another value than the run was trained with until now; None for a key that is not set."""

    path: KeyPath
    before: Any
    after: Any


def rules() -> Iterator[tuple[KeyPath, AtResume]]:
    """Yield every key of a recipe, blocks left out, with what a resumed run does with another value of it.

    A key that two kinds of a block have comes once.
    """
    paths = list(dict.fromkeys(keys_of(Config)))
    blocks = {path[:-1] for path in paths}
    yield from ((path, rule_of(path)) for path in paths if path not in blocks)


def rule_of(path: KeyPath) -> AtResume:
    """Return what a resumed run does with another value at `path`: the nearest mark decides, that of the key or of a
    block around it. It may lie inside a value, as `env.options.x` does, or be no key at all."""
    rule = UNMARKED
    types: tuple[Any, ...] = (Config,)
    for step in path:
        fields = [choice.model_fields[step] for choice in types if is_model(choice) and step in choice.model_fields]
        for field in fields[:1]:
            rule = next((mark for mark in field.metadata if isinstance(mark, AtResume)), rule)
        types = tuple(inner for field in fields for inner in types_of(field.annotation)[0])
    return rule


def is_key(path: KeyPath) -> bool:
    """Return whether a recipe may have a key at `path`; it may lie inside a value, as `env.options.x` does."""
    known = set(keys_of(Config))
    blocks = {key[:-1] for key in known}
    ends = [length for length in range(1, len(path) + 1) if path[:length] in known]
    return bool(ends) and (ends[-1] == len(path) or path[: ends[-1]] not in blocks)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the keys whose values differ between two plain configurations, in the order of `after`."""
    old, new = _values(before), _values(after)
    return [
        Change(path, old.get(path), new.get(path))
        for path in new | old
        if path not in old or path not in new or not _equal(old[path], new[path])
    ]


def changed_config(trained: Config, changed: Recipe, run: str) -> Config:
    """Return the configuration with which a resumed run continues, from `changed`: that of the run with `--set`s.

    `run` names the run in messages. Code that the `--set`s name is named by the user. Raises UsageError, with the
    `--set`, the value before and the reason, for a key that cannot change, and as `recipe.validate` does for wrong
    values.
    """
    before = trained.model_dump(mode="json")
    changed = fitted_file.filled(changed)
    named_code.name_written(changed)
    try:
        config = recipe.validate(Config, blaming_overrides(changed))
    except UsageError:
        # Another policy.kind is refused as such, not for the keys that it does not have.
        present = _values(changed.values)
        written = [each for each in changes(before, changed.values) if each.path in present and is_key(each.path)]
        _refuse(written, changed, run)
        _refuse_unused(trained, written, changed)
        raise
    found = changes(before, config.model_dump(mode="json"))
    _refuse(found, changed, run)
    _refuse_unused(config, found, changed)
    return config


def blaming_overrides(changed: Recipe) -> Recipe:
    """Return `changed` with all its `--set`s as its name, for messages: what the run itself has is no mistake.

    Do not ask its places whether they are overrides: those without one of their own have this name.
    """
    names = dict.fromkeys(place.name for place in changed.places.values() if place.is_override)
    return replace(changed, name=" ".join(names) or changed.name)


def _refuse(found: list[Change], changed: Recipe, run: str) -> None:
    for change in found:
        rule = rule_of(change.path)
        if not rule.changeable:
            place, before = changed.place(change.path), validation.shown(change.before)
            raise UsageError(
                f"{place.name}: {dotted(change.path)} is {before} in the run {run}, and a resume cannot change it: "
                f"{rule.reason}. Leave it out, or start a new run."
            )


def _refuse_unused(config: Config, found: list[Change], changed: Recipe) -> None:
    """Raise UsageError for the change of a key without effect on a policy of this kind."""
    kind = config.policy.kind
    for change in found:
        if any(change.path[: len(unused)] == unused for unused in POLICY_KINDS[kind].unused):
            raise UsageError(
                f"{changed.place(change.path).name}: {dotted(change.path)} has no effect on a {kind} policy, which the "
                "run has. Leave it out."
            )


def _values(block: Mapping[str, Any]) -> dict[KeyPath, Any]:
    """Return the values of all keys by their paths; an empty block has none."""
    return {path: value for path, value in recipe.leaves(block) if value != {}}


def _equal(one: Any, other: Any) -> bool:
    """Compare two plain values; a tuple equals the list of its items, and true is not 1."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
