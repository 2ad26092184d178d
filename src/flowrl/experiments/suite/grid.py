"""The grid of a suite: every combination of the values of some keys (`--grid learner.clip=0.1,0.2`)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from flowrl.config import yaml_reader
from flowrl.contracts.errors import UsageError

MOST_CELLS = 10_000
LONGEST_VALUE = 40  # characters in the name of a cell
_UNSAFE = re.compile(r"[^\w.+-]")  # in the name of a folder


@dataclass(frozen=True)
class Cell:
    """One combination of values."""

    name: str  # 'learning_rate=0.001,clip=0.1', part of the name of a folder; '' without a grid
    overrides: tuple[str, ...]  # 'learner.learning_rate=0.001', …


def cells(options: Sequence[str]) -> list[Cell]:
    """Return every combination of the values in `options`, each 'key=value,value,…'; one cell without a name for none.

    Values are YAML: 0.1,0.2 or [64, 64],[128, 128] or null,0.9. Raises UsageError for other text, a key or a value that
    comes twice, and too many cells.
    """
    axes: dict[str, list[Any]] = {}
    for option in options:
        key, values = _axis(option)
        if key in axes:
            raise UsageError(f"--grid {option}: {key} has a --grid already. Give all its values in one, with commas.")
        axes[key] = values
    if (number := prod(map(len, axes.values()))) > MOST_CELLS:
        raise UsageError(f"--grid: there are {number:,} combinations, and a suite has {MOST_CELLS:,} at most.")
    names = _short_names(axes)
    combinations = product(*([(key, value) for value in values] for key, values in axes.items()))
    return [
        Cell(
            ",".join(f"{names[key]}={text_of(value)}" for key, value in combination),
            tuple(f"{key}={json.dumps(value)}" for key, value in combination),
        )
        for combination in combinations
    ]


def key_of(option: str) -> str:
    """Return the key of 'key=value,…'."""
    return option.partition("=")[0].strip()


def text_of(value: Any) -> str:
    """Return a value as a part of a folder's name: 0.001, true, 64x64. What a name cannot hold gets a checksum."""
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        text = "x".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    safe = _UNSAFE.sub("_", text)[:LONGEST_VALUE]
    return safe if safe == text and safe else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _axis(option: str) -> tuple[str, list[Any]]:
    """Split 'key=value,value' into the key and its values."""
    name, key = f"--grid {yaml_reader.shorten(option, 100)}", key_of(option)
    text = option.partition("=")[2]
    if not key or not text.strip():
        raise UsageError(f"{name}: expected a key and its values, as in --grid learner.learning_rate=1e-3,2e-3.")
    values = yaml_reader.parse_value(f"[{text}]", name)
    if not isinstance(values, list) or not values:
        raise UsageError(f"{name}: expected values with commas between them, as in --grid learner.clip=0.1,0.2.")
    written = [json.dumps(value) for value in values]
    if twice := next((text for text in written if written.count(text) > 1), None):
        raise UsageError(f"{name}: the value {twice} comes twice. Remove one.")
    return key, values


def _short_names(keys: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    """Map each key to its last part, or to all of it where two keys have the same last part."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: name if list(last.values()).count(name) == 1 else key for key, name in last.items()}
