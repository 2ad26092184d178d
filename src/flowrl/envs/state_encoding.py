"""Python values as plain values and NumPy arrays, of which a checkpoint consists, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

# Types that a checkpoint's tensors can hold.
ARRAY_TYPES = {np.dtype(np.bool_), np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)}
ARRAY_TYPES |= {np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}

BIT_GENERATORS = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}
CONTAINERS = {"list": list, "tuple": tuple, "deque": deque}


class Inexact(Exception):
    """The state cannot be captured exactly, for the reason in the message."""


class Encoder:
    """Encode values as plain Python and arrays. An object that occurs twice is one object after decoding, too."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # identity of an object -> its number
        self.alive: list[Any] = []  # the objects, kept so that no identity is reused

    def encode(self, value: Any) -> Any:
        """Encode `value` for `Decoder.decode`; raises Inexact, with the type, for what has no plain form."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self.seen:
            return {"kind": "same", "number": self.seen[id(value)]}
        number = self.seen[id(value)] = len(self.alive)
        self.alive.append(value)
        return {"number": number} | self._encode(value)

    def _encode(self, value: Any) -> dict[str, Any]:
        if isinstance(value, np.ndarray | np.generic):
            if value.dtype not in ARRAY_TYPES or type(value) not in (np.ndarray, value.dtype.type):
                raise Inexact(f"a {type(value).__name__} of {value.dtype}")
            if isinstance(value, np.generic):
                return {"kind": "scalar", "value": np.array(value)}
            self._refuse_overlap(value)
            return {"kind": "array", "value": value.copy()}
        if type(value) in (list, tuple, deque):
            longest = {"longest": value.maxlen} if isinstance(value, deque) and value.maxlen is not None else {}
            return {"kind": type(value).__name__, "value": [self.encode(item) for item in value]} | longest
        if type(value) is dict:
            items = [[self.encode(key), self.encode(item)] for key, item in value.items()]
            return {"kind": "dict", "value": items}
        if type(value) is np.random.Generator and type(value.bit_generator).__name__ in BIT_GENERATORS:
            bits = value.bit_generator
            return {"kind": type(bits).__name__, "value": self.encode(bits.state)}
        raise Inexact(f"a {type(value).__name__}")

    def _refuse_overlap(self, array: np.ndarray) -> None:
        """Raise Inexact for arrays that share memory without being one object: decoding would separate them."""
        for other in self.alive[:-1]:
            if isinstance(other, np.ndarray) and np.may_share_memory(array, other):
                raise Inexact("an array that shares its memory with another one")


class Decoder:
    """Decode what an `Encoder` wrote; use one decoder for everything from one encoder."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}

    def decode(self, value: Any) -> Any:
        """Return the value that `Encoder.encode` was given."""
        if not isinstance(value, dict):
            return value
        if value["kind"] == "same":
            return self.known[value["number"]]
        decoded = self._decode(value["kind"], value["value"])
        if "longest" in value:
            decoded = deque(decoded, value["longest"])
        self.known[value["number"]] = decoded
        return decoded

    def _decode(self, kind: str, inner: Any) -> Any:
        if kind == "array":
            return inner.copy()
        if kind == "scalar":
            return inner[()]
        if kind == "dict":
            return {self.decode(key): self.decode(item) for key, item in inner}
        if kind in CONTAINERS:
            return CONTAINERS[kind](self.decode(item) for item in inner)
        bits = BIT_GENERATORS[kind](0)
        bits.state = self.decode(inner)
        return np.random.Generator(bits)


def is_number_array(value: Any) -> bool:
    """Return whether `value` is a NumPy array or scalar of a type that a checkpoint holds."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype in ARRAY_TYPES


def bytes_of(tree: Any) -> int:
    """Return the bytes of all arrays in nested dicts and lists."""
    if isinstance(tree, np.ndarray):
        return int(tree.nbytes)
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return sum(map(bytes_of, items))


def as_tensors(tree: Any) -> Any:
    """Return a nested value with its NumPy arrays as tensors, as a checkpoint holds them."""
    return mapped(tree, np.ndarray, torch.from_numpy)


def as_arrays(tree: Any) -> Any:
    """Return a nested value with its tensors as NumPy arrays."""
    return mapped(tree, torch.Tensor, lambda tensor: tensor.numpy(force=True))


def mapped(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return `tree` of dicts and lists with `change` applied to its leaves of type `kind`."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, dict):
        return {key: mapped(item, kind, change) for key, item in tree.items()}
    if isinstance(tree, list):
        return [mapped(item, kind, change) for item in tree]
    return tree
