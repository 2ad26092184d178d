"""Checks of the keyword arguments of environments: each returns the value, or raises UsageError."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from flowrl.contracts.errors import UsageError, did_you_mean

Name = TypeVar("Name", bound=str)


MOST = 10**6  # steps of an episode, and whatever else is counted


def at_least_one(name: str, value: int) -> int:
    """Return `value`; raises UsageError, with its `name`, unless it is an integer from 1 to `MOST`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}.")
    if value > MOST:
        raise UsageError(f"{name} must be {MOST:,} at most, not {value:,}.")
    return value


def one_of(known: Collection[Name], value: Name, missing: str) -> Name:
    """Return `value`; raises UsageError, which begins with `missing` ('there is no task'), unless it is `known`."""
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{missing} {value!r}.{did_you_mean(str(value), known)} There are {', '.join(known)}.")
    return value
