"""Equality of nested states, such as the contents of two checkpoints, to the last bit."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any

import torch

MEASURED = ("seconds", "metrics_offset")  # of a checkpoint: they depend on the machine
UNEQUAL = (*MEASURED, "total_steps")  # of a run that went on for longer


def difference(one: Any, other: Any, but: Collection[str] = (), at: str = "") -> str:
    """Return where two nested values differ first, or '' where they are equal in types, keys, order and bits.

    What stands under the keys `but` may differ.
    """
    if type(one) is not type(other):
        return f"{at}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, torch.Tensor):
        bits = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
        return "" if one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits) else at or "tensors"
    if isinstance(one, Mapping):
        if list(one) != list(other):
            return f"{at}: keys {list(one)} and {list(other)}"
        pairs = [(f"{at}.{key}", one[key], other[key]) for key in one if key not in but]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{at}: lengths {len(one)} and {len(other)}"
        pairs = [(f"{at}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, float):
        return "" if struct.pack("d", one) == struct.pack("d", other) else f"{at}: {one} and {other}"
    else:
        return "" if one == other else f"{at}: {one!r} and {other!r}"
    return next(filter(None, (difference(*pair, but, name) for name, *pair in pairs)), "")


def same(one: Any, other: Any, but: Collection[str] = ()) -> bool:
    """Whether two nested values are equal in types, keys, order and bits, but for what stands under the keys `but`."""
    return not difference(one, other, but)
