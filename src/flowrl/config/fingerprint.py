"""What makes runs seeds of one experiment: equal settings, but for those that are no part of what is learned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

APART = ("seed", "device", "threads", "env.threads", "env.options.threads", "checkpoint")
"""Keys of a recipe in which the runs of one experiment may differ."""


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """'learner.clip' -> 0.1, and so for every setting of the resolved `config` that has to be equal."""
    return dict(_leaves(config))


def digest(config: Mapping[str, Any]) -> str:
    """The same for two runs that learn the same thing, their seeds aside (sha256, hex)."""
    text = json.dumps(compared(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """'learner.clip is 0.1 there, 0.2 is asked for': every setting in which two resolved configurations differ,
    as far as it has a part in what is learned."""
    old, new = compared(there), compared(asked)
    return [
        f"{key} is {_shown(old, key)} there, {_shown(new, key)} is asked for"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _leaves(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        name = f"{prefix}{key}"
        if name in APART:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "not set"
