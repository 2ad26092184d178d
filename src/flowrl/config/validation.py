"""Validation messages: what is wrong with a value of a recipe and what would be right, in the user's words.

Pydantic reports errors in terms of models and types; here they become keys, choices and examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flowrl.config.suggestions import CHOICES, is_model, keys_meant, other_key, types_of
from flowrl.config.yaml_reader import KeyPath, dotted, plain_scalar, shorten
from flowrl.contracts.errors import did_you_mean

_EXPECTED = {  # pydantic's name of an error -> what is expected
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "none_required": "null",
}
_LIMITS = {  # pydantic's name of an error -> what it means, from the context that it gives
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than": "must be < {lt:g}",
    "less_than_equal": "must be <= {le:g}",
    "multiple_of": "must be a multiple of {multiple_of:g}",
    "too_short": "needs {min_length} or more values",
    "too_long": "may have {max_length} values at most",
}
_KINDS = {bool: {"true or false"}, int: {"a whole number", "a number"}, float: {"a number"}}
_MOST_KEYS_LISTED = 12


@dataclass(frozen=True)
class ValidationMessage:
    """What is wrong with the value of one key, and advice."""

    path: KeyPath  # of the key; () for the entire recipe
    what: str  # 'must be > 0, got -1'
    advice: str = ""  # further sentences, or ''
    kind: Literal["value", "unknown", "missing"] = "value"  # what is wrong: the value, the key, or that it is missing
    meant: str = ""  # of an unknown key: the path of the key that is meant, or ''

    def __str__(self) -> str:
        return f"{self.what.rstrip('.')}. {self.advice}".rstrip()

    @property
    def brief(self) -> str:
        """The message as one of several: without advice, but with the key that is meant."""
        return f"{self.what} (did you mean {self.meant!r}?)" if self.meant else self.what


def messages(
    model: type[BaseModel],
    values: Mapping[str, Any],
    error: ValidationError,
    dotted_names: Callable[[KeyPath], bool] = lambda path: False,
) -> list[ValidationMessage]:
    """Return what pydantic refused of `values`, one message per key.

    `dotted_names` returns whether the key at a path was written with dots, so that another is suggested with dots. A
    key that is missing because it is misspelt is reported once, as unknown.
    """
    found = [(_spot(model, values, details["loc"]), details) for details in error.errors(include_url=False)]
    by_path: dict[KeyPath, list[_Found]] = {}
    meant = _of_meant_members(found)
    for spot, details in meant:
        # For a list with wrong entries pydantic also reports that too few are right.
        below = (len(other.path) > (depth := len(spot.path)) and other.path[:depth] == spot.path for other, _ in meant)
        if details["type"] == "too_short" and any(below):
            continue
        by_path.setdefault(spot.path, []).append((spot, details))
    found_messages = [_message(model, group, dotted_names(group[0][0].path)) for group in by_path.values()]
    misspelt = {message.meant for message in found_messages}
    return [each for each in found_messages if each.kind != "missing" or dotted(each.path) not in misspelt]


def shown(value: Any) -> str:
    """Return the value as it looks in the recipe: "64.5" (text), 3, true, nothing (null), [64, 64]."""
    if isinstance(value, str):
        return f'"{shorten(value)}" (text)'
    if isinstance(value, Mapping):
        return "a block of keys"
    return "nothing (null)" if value is None else shorten(written(value))


def written(value: Any) -> str:
    """Return the value as YAML, but for quotes around text: true, null, [64, 64], {count: 4}."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(each)}' for key, each in value.items())}}}"
    return "null" if value is None else str(value)


# Where an error of pydantic is, in the keys of the recipe and in the models.


@dataclass(frozen=True)
class _Spot:
    path: KeyPath
    types: tuple[Any, ...]  # types allowed there, without null
    nullable: bool
    owner: type[BaseModel] | None  # the model of which the last key is, or should be, a field
    rivals: tuple[Any, ...]  # the other members of the union that the owner belongs to
    members: tuple[tuple[KeyPath, str], ...]  # of each union on the way, the member that reports the error


_Found = tuple[_Spot, ErrorDetails]


def _spot(model: type[BaseModel], values: Mapping[str, Any], location: tuple[int | str, ...]) -> _Spot:
    """Convert pydantic's location, which mixes keys with names of the members of unions."""
    path: KeyPath = ()
    types: tuple[Any, ...] = (model,)
    union: tuple[Any, ...] = ()
    owner, rivals, nullable = None, union, False
    members: list[tuple[KeyPath, str]] = []
    for step in location:
        if len(types) > 1:  # here pydantic names the member
            members.append((path, str(step)))
            union, types = types, _member(types, str(step))
            continue
        outer = types[0]
        inner = _inner(outer, step)
        if inner is None and not _holds(values, (*path, step)):
            continue  # the step is a type, or '[key]'
        owner, rivals, union = (outer if is_model(outer) else None), union, ()
        path = (*path, step)
        types, nullable = types_of(Any if inner is None else inner)
    return _Spot(path, types, nullable, owner, rivals, tuple(members))


def _inner(outer: Any, step: int | str) -> Any:
    """Return the annotation at `step` inside the type `outer`; None when the type does not define it."""
    arguments = get_args(outer)
    if is_model(outer):
        return outer.model_fields[step].annotation if step in outer.model_fields else Any
    if get_origin(outer) in (tuple, list) and isinstance(step, int) and arguments:
        items = [argument for argument in arguments if argument is not Ellipsis]
        return items[min(step, len(items) - 1)]
    return None if get_origin(outer) is not dict or step == "[key]" else arguments[1]


def _member(types: tuple[Any, ...], label: str) -> tuple[Any, ...]:
    """Return the type of a union that pydantic calls `label`: a model by its name or by its tag."""
    for choice in types:
        if is_model(choice) and label in (choice.__name__, *_tags(choice)):
            return (choice,)
    others = tuple(choice for choice in types if not is_model(choice))
    return others[:1] or types[:1]


def _tags(model: type[BaseModel], key: str | None = None) -> list[str]:
    """Return the constants that distinguish a model in a union, such as 'flow' for `kind: Literal['flow']`."""
    annotations = [field.annotation for name, field in model.model_fields.items() if key in (None, name)]
    constants = [get_args(annotation) for annotation in annotations if _is_choice(annotation)]
    return [str(choice) for choices in constants if key or len(choices) == 1 for choice in choices]


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


def _holds(values: Any, path: KeyPath) -> bool:
    for step in path:
        if isinstance(values, Mapping) and step in values:
            values = values[str(step)]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return False
    return True


def _of_meant_members(found: list[_Found]) -> list[_Found]:
    """Keep, of the errors from the members of a union, those of the member that the user seems to have meant:
    a member that looked inside the value before one that expects another type, then the one with fewest errors."""
    entered = {spot.path[:length] for spot, _ in found for length in range(len(spot.path))}
    found = [(spot, details) for spot, details in found if not spot.members or spot.path not in entered]
    count = Counter(member for spot, _ in found for member in spot.members if member[0] in entered)
    fewest: dict[KeyPath, int] = {}
    for (path, _), number in count.items():
        fewest[path] = min(number, fewest.get(path, number))
    return [
        (spot, details)
        for spot, details in found
        if all(count[member] == fewest[member[0]] for member in spot.members if member in count)
    ]


# What is wrong, in words.


def _message(model: type[BaseModel], group: list[_Found], dotted_names: bool) -> ValidationMessage:
    """Make one message of all errors of pydantic at one key (several if it is a union)."""
    spot, details = group[0]
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(model, spot, dotted_names)
    if kind == "missing":
        return _missing(spot)
    if kind.startswith("union_tag"):
        return _wrong_member(spot, value, str(context["discriminator"]).strip("'"))
    if kind in _EXPECTED or kind == "literal_error":
        return _wrong_value(spot, {details["type"]: details for _, details in group}, value)
    if kind in _LIMITS:
        return ValidationMessage(spot.path, f"{_LIMITS[kind].format(**context)}, got {shown(value)}")
    if kind in ("value_error", "assertion_error"):
        return ValidationMessage(spot.path, str(context["error"]))
    return ValidationMessage(spot.path, f"{details['msg'].removeprefix('Input ')}, got {shown(value)}")


def _unknown_key(model: type[BaseModel], spot: _Spot, dotted_names: bool) -> ValidationMessage:
    fields = list(spot.owner.model_fields) if spot.owner else []
    for rival in spot.rivals:
        if is_model(rival) and spot.path[-1] in rival.model_fields and spot.owner:
            here, there = (" ".join(_tags(choice)) or choice.__name__ for choice in (spot.owner, rival))
            what = f"unknown key for {dotted(spot.path[:-1])} of the kind {here}; it belongs to {there}"
            return ValidationMessage(spot.path, what, kind="unknown")
    advice = other_key(model, spot.path, fields, dotted_names=dotted_names)
    meant = keys_meant(model, spot.path, fields)
    if not advice or len(fields) <= _MOST_KEYS_LISTED:
        advice = f"{advice} Known keys here: {', '.join(fields)}."
    return ValidationMessage(spot.path, "unknown key", advice.strip(), "unknown", dotted(meant[0]) if meant else "")


def _missing(spot: _Spot) -> ValidationMessage:
    if isinstance(last := spot.path[-1], int):
        return ValidationMessage(spot.path[:-1], f"the list ends too early: value number {last + 1} is missing")
    return ValidationMessage(spot.path, "this key is missing, and it has no default", kind="missing")


def _wrong_member(spot: _Spot, block: Any, key: str) -> ValidationMessage:
    """The tag that selects the member of a union is missing or wrong."""
    choices = [tag for choice in spot.types for tag in _tags(choice, key)]
    given = block.get(key) if isinstance(block, Mapping) else None
    path = (*spot.path, key)
    if given is None:
        return ValidationMessage(path, f"this key is missing: write {_one_of(choices)}", kind="missing")
    return ValidationMessage(
        path, f"expected {_one_of(choices)}, got {shown(given)}", did_you_mean(str(given), choices).strip()
    )


def _wrong_value(spot: _Spot, errors: dict[str, ErrorDetails], value: Any) -> ValidationMessage:
    """The value has none of the allowed types, or is none of the choices."""
    constants = [choice for kind in spot.types if _is_choice(kind) for choice in get_args(kind)]
    choices = [written(choice) for choice in constants]
    expected = list(dict.fromkeys(_EXPECTED[kind] for kind in errors if kind in _EXPECTED))
    wanted = ([_one_of(choices)] if choices else []) + expected + (["null"] if spot.nullable else [])
    what = f"expected {' or '.join(wanted)}, got {shown(value)}"
    if True in constants:
        expected.append("true or false")
    instead = _instead(spot, set(expected), value)
    if choices and isinstance(value, str) and not instead:
        instead = did_you_mean(value, choices, CHOICES).strip()
    return ValidationMessage(spot.path, what, instead)


def _instead(spot: _Spot, expected: set[str], value: Any) -> str:
    """Return what to type instead, when the value shows what was meant; else ''."""
    if isinstance(value, str):
        if _KINDS.get(type(plain_scalar(value)), set()) & expected:
            return f"Write {value} without quotes."
        if "true or false" in expected and value.lower() in ("yes", "no", "on", "off"):
            return f"Write {'true' if value.lower() in ('yes', 'on') else 'false'}."
        if spot.nullable and value.lower() in ("none", "nil"):
            return "Write null."
        name = next((key for key in ("name", "id", "kind") if _has_field(spot.types, key)), None)
        return f"Write {dotted((*spot.path, name))}: {shorten(value)}." if name else ""
    if "a whole number" in expected and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    if "text" in expected and isinstance(value, bool | int | float):
        return f"Put it in quotes: '{written(value)}'."
    if "a list" in expected and isinstance(value, int | float):
        return f"Write [{written(value)}]."
    if "a block of keys" in expected and value is None:
        return "Remove the key, or write its own keys below it, indented."
    return ""


def _has_field(types: tuple[Any, ...], name: str) -> bool:
    return any(is_model(choice) and name in choice.model_fields for choice in types)


def _one_of(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
