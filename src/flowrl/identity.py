"""What makes runs seeds of one experiment: equal settings, but for those that are no part of what is learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

APART = ("seed", "device", "threads", "checkpoint")
"""Root keys of a recipe in which the runs of one experiment may differ."""


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """'learner.clip' -> 0.1, and so for every setting of the resolved `config` that has to be equal."""
    return dict(_leaves({key: value for key, value in config.items() if key not in APART}))


def _leaves(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
