"""What makes runs seeds of one experiment: equal settings, but for those that are no part of what is learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

APART = ("seed", "device", "threads", "env.threads", "env.options.threads", "checkpoint")
"""Keys of a recipe in which the runs of one experiment may differ."""


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """'learner.clip' -> 0.1, and so for every setting of the resolved `config` that has to be equal."""
    return dict(_leaves(config))


def _leaves(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        name = f"{prefix}{key}"
        if name in APART:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
