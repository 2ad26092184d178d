"""Check the state of environments that a checkpoint holds, before any of it is put into an environment.

Arrays are tensors here, and everything else is as `flowrl.envs.state_encoding.Encoder` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowrl.envs.state_capture import STATELESS_NAMES
from flowrl.envs.state_encoding import BIT_GENERATORS, CONTAINERS, Decoder, as_arrays

TWISTER_WORDS = 624  # of NumPy's MT19937

_PLAIN = (type(None), bool, int, float, str)
_POSITIONS = {"MT19937": ("state", "pos", TWISTER_WORDS), "Philox": ("buffer_pos", None, 4)}
"""Of a generator: where its state has the place of the next number, which NumPy does not check, and its largest."""


def check(saved: Any, count: int, key: str = "env.envs", *, gaps: bool = False) -> None:
    """Raise ValueError, with the key, unless `saved` has the form of a state of `count` environments; None is that of
    none.

    It is the encoded state of all together, or a list of the states of each; with `gaps` that of some may be None.
    """
    if isinstance(saved, dict):
        _check_encoded(saved, key)
    elif isinstance(saved, list):
        if len(saved) != count:
            raise ValueError(f"its key '{key}' has the states of {len(saved)} environments: expected {count}")
        for number, each in enumerate(saved):
            if each is not None or not gaps:
                _check_layers(each, f"{key}.{number}")


def of_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of all environments in the content of a checkpoint, those of its shards one after another."""
    states: list[dict[str, Any]] = [shard["env"] for shard in content["shards"]]
    if len(states) == 1:
        return states[0]
    merged = states[0] | {
        "count": sum(state["count"] for state in states),
        "obs": torch.cat([state["obs"] for state in states]),
    }
    for key in ("envs", "statistics"):
        if all(isinstance(state.get(key), list) for state in states):
            merged[key] = [each for state in states for each in state[key]]
    return merged


def check_alike(saved: Any, fresh: Any, key: str = "env.envs") -> None:
    """Raise ValueError, with the key, unless two states of environments that flowrl steps all together differ in their
    numbers only.

    `fresh` is the state of new environments: its arrays have the shapes and number types that `saved` must have.
    """
    if isinstance(saved, dict):
        _check_alike(saved, fresh, key)


def _check_layers(state: Any, key: str) -> None:
    """Check the state of one environment: the attributes of its wrappers and of itself, and other arrays."""
    if not isinstance(state, dict) or not isinstance(state.get("layers"), list):
        raise ValueError(f"its key '{key}' has no list of layers")
    for number, layer in enumerate(state["layers"]):
        if not isinstance(layer, dict):
            raise ValueError(f"its key '{key}.layers.{number}' is no dict of attributes")
        for name, value in layer.items():
            at = f"{key}.layers.{number}.{name}"
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("__") or name in STATELESS_NAMES:
                raise ValueError(f"its key '{at}' is no attribute that holds a state")
            _check_encoded(value, at)
    for name in state.keys() & {"integration", "derived"}:
        if not isinstance(state[name], Tensor):
            raise ValueError(f"its key '{key}.{name}' is not a tensor")
    if "generators" in state:
        _check_global_generators(state["generators"], f"{key}.generators")


def _check_global_generators(state: Any, key: str) -> None:
    """Check the part of the state of a worker's global generators that NumPy does not check."""
    numpy = state.get("numpy") if isinstance(state, dict) else None
    position = numpy.get("pos") if isinstance(numpy, dict) else None
    if type(position) is not int or not 0 <= position <= TWISTER_WORDS:
        raise ValueError(f"its key '{key}.numpy.pos' is no place among the generator's {TWISTER_WORDS} numbers")


def _check_encoded(value: Any, key: str) -> None:
    """Raise ValueError unless `value` has the form that `Encoder.encode` gives a value."""
    if isinstance(value, _PLAIN):
        return
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "statistics":  # the attributes of an object of running statistics
        _check_encoded(value.get("value"), key)
        return
    if not isinstance(kind, str) or type(value.get("number")) is not int:
        raise ValueError(f"its key '{key}' is not an encoded value")
    inner = value.get("value")
    if kind == "same":
        return
    if kind in ("array", "scalar"):
        if not isinstance(inner, Tensor) or (kind == "scalar" and inner.ndim > 0):
            raise ValueError(f"its key '{key}' holds no {kind}")
    elif kind in BIT_GENERATORS:
        _check_encoded(inner, key)
        _check_generator(kind, inner, key)
    elif kind in CONTAINERS and isinstance(inner, list):
        longest = value.get("longest", len(inner))
        if type(longest) is not int or longest < len(inner) or (kind != "deque" and "longest" in value):
            raise ValueError(f"its key '{key}' has no longest length of a deque of {len(inner)}")
        for number, item in enumerate(inner):
            _check_encoded(item, f"{key}.{number}")
    elif kind == "dict" and isinstance(inner, list):
        for pair in inner:
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(f"its key '{key}' holds no pairs of a key and a value")
            _check_encoded(pair[0], key)
            _check_encoded(pair[1], f"{key}.{str(pair[0])[:40]}")
    else:
        raise ValueError(f"its key '{key}' is of the kind {kind[:20]!r}, or holds nothing of that kind")


def _check_generator(kind: str, inner: Any, key: str) -> None:
    """Raise ValueError unless NumPy takes `inner` for the state of a bit generator, and draws within its memory."""
    try:
        state = Decoder().decode(as_arrays(inner))
        BIT_GENERATORS[kind](0).state = state
        if kind in _POSITIONS:
            outer, inside, largest = _POSITIONS[kind]
            position = state[outer] if inside is None else state[outer][inside]
            if type(position) is not int or not 0 <= position <= largest:
                raise ValueError(f"its position is {position}")
    except Exception as error:  # what NumPy raises depends on the part that is wrong
        raise ValueError(f"its key '{key}' is not the state of a {kind} generator") from error


def _check_alike(saved: Any, fresh: Any, key: str) -> None:
    """Raise ValueError unless two encoded values differ in their numbers only."""
    if not isinstance(saved, dict) or not isinstance(fresh, dict):
        if type(saved) is not type(fresh):
            raise ValueError(f"its key '{key}' is a {type(saved).__name__}, not a {type(fresh).__name__}")
        return
    if saved["kind"] != fresh["kind"]:
        raise ValueError(f"its key '{key}' is of the kind {saved['kind']!r}, not {fresh['kind']!r}")
    was: Any = saved.get("value")
    now: Any = fresh.get("value")
    if isinstance(now, Tensor):
        if (was.shape, was.dtype) != (now.shape, now.dtype):
            raise ValueError(f"its key '{key}' is {_shape(was)}, not {_shape(now)}")
    elif saved["kind"] == "dict":
        before, after = _entries(was), _entries(now)
        for name in sorted(before.keys() ^ after.keys()):
            raise ValueError(f"its key '{key}.{name}' is {'missing' if name in after else 'unknown'}")
        for name, value in before.items():
            _check_alike(value, after[name], f"{key}.{name}")


def _entries(pairs: list[list[Any]]) -> Mapping[str, Any]:
    return {str(name): value for name, value in pairs}


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
