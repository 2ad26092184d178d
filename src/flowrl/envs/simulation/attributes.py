"""The attributes of an object as plain values and tensors, and back: what a task keeps, without code of its own.

Nobody can forget an attribute here: each is saved, or has no state (a function, a type, a MuJoCo model), or is
refused. Tensors that share memory share it afterwards, too, and views of the simulation's memory stay such views.
"""

from __future__ import annotations

import re
import types
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

Encoded = list[Any]  # [kind, …]; a list, because the shapes and names in it may differ from those of a new task

PLAIN = (type(None), bool, int, float, str)
CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
STATELESS = (
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, Path, re.Pattern),
    *(slice, range, torch.dtype, torch.device, np.dtype, mujoco.MjModel, mujoco.MjSpec),
)
DTYPES = {
    str(dtype): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}


class NotSaved(Exception):
    """An attribute holds something that cannot be saved; the message names it and says what to write instead."""


class Writer:
    """Encodes attributes. `live` are tensors of the simulation by name, whose memory is not the task's."""

    def __init__(self, live: Mapping[str, Tensor]) -> None:
        self.memory: list[Tensor] = []  # (bytes,) uint8 each: what the tensors of the task lie in
        self._place: dict[int, int | str] = {address(tensor): name for name, tensor in live.items()}
        self._number: dict[int, int] = {}  # identity of a container or object -> its number
        self._alive: list[Any] = []  # so that no identity is reused

    def attributes(self, owner: object, names: Mapping[str, Any]) -> Encoded:
        """Encode the attributes `names` of `owner`; raises NotSaved for one that cannot be."""
        if id(owner) not in self._number:
            self._register(owner)
        return [[name, self.encode(value, f"{type(owner).__name__}.{name}")] for name, value in names.items()]

    def encode(self, value: Any, where: str) -> Encoded:
        """Encode `value`, the contents of `where`."""
        if type(value) in PLAIN:
            return ["plain", value]
        if isinstance(value, STATELESS):
            return ["stateless"]
        if id(value) in self._number:
            return ["again", self._number[id(value)]]
        self._register(value)
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, where)
        if (kind := type(value).__name__) in CONTAINERS and type(value) is CONTAINERS[kind]:
            items = [self.encode(item, f"{where}[{number}]") for number, item in enumerate(value)]
            return [kind, items, getattr(value, "maxlen", None)]
        if type(value) is dict:
            pairs = [[self.encode(key, where), self.encode(item, f"{where}[{key!r}]")] for key, item in value.items()]
            return ["dict", pairs]
        if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState):
            raise NotSaved(
                f"{where} is a random generator of its own. Draw with self.uniform(…), self.normal(…) or "
                "generator=self.random: that generator is seeded and saved with the run."
            )
        if type(value).__module__ != "builtins" and isinstance(getattr(value, "__dict__", None), dict):
            return ["object", self.attributes(value, vars(value))]
        raise NotSaved(
            f"{where} is a {type(value).__name__}, which cannot be saved with a run. Keep tensors, numbers, texts, "
            "lists or dicts, or what never changes in an attribute of the class or the module."
        )

    def _register(self, value: object) -> None:
        """Number `value`, so that a second mention of it is the same object afterwards."""
        self._number[id(value)] = len(self._alive)
        self._alive.append(value)

    def _tensor(self, value: Tensor, where: str) -> Encoded:
        if value.layout != torch.strided or str(value.dtype) not in DTYPES or value.requires_grad:
            raise NotSaved(f"{where} is a tensor of {value.dtype}, sparse or with a gradient, which cannot be saved.")
        if value.numel() == 0:
            return ["empty", str(value.dtype), [*value.shape]]
        if (at := address(value)) not in self._place:
            self._place[at] = len(self.memory)
            self.memory.append(torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage().cpu()).clone())
        return ["tensor", self._place[at], str(value.dtype), [*value.shape], [*value.stride()], value.storage_offset()]

    def _array(self, value: np.ndarray | np.generic, where: str) -> Encoded:
        if value.dtype.kind not in "biuf" or (isinstance(value, np.ndarray) and not value.flags.owndata):
            raise NotSaved(
                f"{where} is a NumPy array that is a view of another one, or holds no numbers. Keep a copy of its own: "
                "self.constant(…) makes a tensor."
            )
        return ["array", torch.from_numpy(np.array(value)), isinstance(value, np.generic)]


class Reader:
    """Decodes what a Writer of the same kind of simulation encoded.

    `live` returns a tensor of the simulation by its name, and `memory` is that Writer's.
    """

    def __init__(self, live: Callable[[str], Tensor], memory: list[Tensor]) -> None:
        self._live, self._known = live, list[Any]()
        self._memory = [each.clone() for each in memory]

    def put(self, owner: Any, encoded: Encoded) -> None:
        """Set the encoded attributes of `owner`; raises ValueError for what is no attribute that holds a state."""
        if not self._known:
            self._known.append(owner)
        for name, value in encoded:
            if not isinstance(name, str) or not name.isidentifier() or callable(getattr(type(owner), name, None)):
                raise ValueError(f"{type(owner).__name__}.{str(name)[:40]} is no attribute that holds a state")
            if name.startswith("__"):
                raise ValueError(f"{name[:40]} is no attribute that holds a state")
            now = getattr(owner, name, None)
            new = self.decode(value, now)
            if new is not now:
                vars(owner)[name] = new

    def decode(self, encoded: Encoded, now: Any) -> Any:
        """Return the encoded value; objects and what has no state are the present ones, `now`."""
        kind, *rest = encoded
        if kind == "plain":
            return rest[0]
        if kind == "stateless":
            return now
        if kind == "again":
            return self._known[rest[0]]
        number = len(self._known)
        self._known.append(now if kind == "object" else None)
        self._known[number] = value = self._decode(kind, rest, now)
        return value

    def _decode(self, kind: str, rest: list[Any], now: Any) -> Any:
        if kind == "tensor":
            place, dtype, shape, stride, offset = rest
            base = self._live(place) if isinstance(place, str) else _as_type(self._memory[place], DTYPES[dtype])
            if base.dtype != DTYPES[dtype]:
                raise ValueError(f"a tensor of {dtype} is no view of a field of {base.dtype}")
            return base.as_strided(shape, stride, offset)  # which refuses what lies outside of the memory
        if kind == "empty":
            return torch.empty(rest[1], dtype=DTYPES[rest[0]])
        if kind == "array":
            return rest[0].numpy()[()] if rest[1] else rest[0].numpy().copy()
        if kind == "dict":
            return {
                (known := self.decode(key, None)): self.decode(item, now.get(known) if isinstance(now, dict) else None)
                for key, item in rest[0]
            }
        if kind in CONTAINERS:
            before = [*now] if isinstance(now, list | tuple) and len(now) == len(rest[0]) else [None] * len(rest[0])
            items = [self.decode(item, old) for item, old in zip(rest[0], before, strict=True)]
            return deque(items, rest[1]) if kind == "deque" else CONTAINERS[kind](items)
        if kind == "object" and now is not None:
            self.put(now, rest[0])
            return now
        raise ValueError(f"a value of the kind {kind!r} cannot be restored")


def _as_type(memory: Tensor, dtype: torch.dtype) -> Tensor:
    """View bytes (size,) uint8 as numbers of `dtype`."""
    return memory[: len(memory) - len(memory) % dtype.itemsize].view(dtype)


def address(tensor: Tensor) -> int:
    """Return where the memory begins that `tensor` lies in, perhaps with others."""
    return tensor.untyped_storage().data_ptr()
