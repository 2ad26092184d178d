"""The exact state of an environment: all that its next steps depend on, bit for bit.

`capture` reads it into plain Python values and NumPy arrays, `reinstate` puts it into a new environment with the
same arguments. It consists of:

* the plain attributes of the environment and of every wrapper around it (numbers, strings, arrays, containers
  of these, random generators), among them TimeLimit's count and the environment's own generator;
* for MuJoCo environments the integration state, and the derived fields that observations and rewards read:
  they lag the integration state by a substep, so `mj_forward` must not recompute them.

An environment with any other attribute that may change (a Box2D world, an emulator) cannot be captured exactly,
and `capture` names that attribute. Module globals and the memory of C extensions are not seen.
"""

from __future__ import annotations

import types
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

# Derived fields of MjData that environments read into observations, rewards and infos.
DERIVED = (
    *("xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat"),
    *("cinert", "cvel", "cacc", "cfrc_ext", "cfrc_int", "subtree_com", "subtree_linvel", "subtree_angmom"),
    *("qacc", "qfrc_actuator", "qfrc_constraint", "actuator_force", "sensordata"),
)

# Types of attributes without state: constants, descriptions, code.
STATELESS = (
    gymnasium.Space,
    EnvSpec,
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    np.dtype,
    np.ufunc,
    Path,
)
STATELESS_NAMES = {"env", "spec", "_cached_spec", "_saved_kwargs", "_metadata", "metadata", "mujoco_renderer"}

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
            if isinstance(value, deque) and value.maxlen is not None:
                raise Inexact("a deque with a maximum length")
            return {"kind": type(value).__name__, "value": [self.encode(item) for item in value]}
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


def layers(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Env[Any, Any]]:
    """Return the wrappers around an environment, outermost first, and the environment itself."""
    found = [env]
    while isinstance(found[-1], gymnasium.Wrapper):
        found.append(found[-1].env)
    return found


def attributes(layer: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """Return the attributes of one layer that may hold state."""
    return {
        name: value
        for name, value in vars(layer).items()
        if not (name in STATELESS_NAMES or isinstance(value, STATELESS) or is_constant(value) or is_mujoco(value))
    }


def is_constant(value: Any) -> bool:
    """Return whether `value` is a frozen dataclass: a description, not a state."""
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def is_mujoco(value: Any) -> bool:
    """Return whether `value` is MuJoCo's model or data, which MuJoCo's own functions capture."""
    return type(value).__module__.startswith("mujoco.") and type(value).__name__ in ("MjModel", "MjData")


def physics(env: gymnasium.Env[Any, Any]) -> tuple[Any, Any] | None:
    """Return (model, data) of a MuJoCo environment, else None."""
    model, data = getattr(env.unwrapped, "model", None), getattr(env.unwrapped, "data", None)
    return (model, data) if is_mujoco(model) and is_mujoco(data) else None


def model_checksum(env: gymnasium.Env[Any, Any]) -> int | None:
    """Return a checksum (CRC-32) of the MuJoCo model of `env`; None without a model."""
    found = physics(env)
    if found is None:
        return None
    import mujoco

    buffer = np.empty(mujoco.mj_sizeModel(found[0]), dtype=np.uint8)
    mujoco.mj_saveModel(found[0], None, buffer)
    return zlib.crc32(buffer.tobytes())


def capture(env: gymnasium.Env[Any, Any], checksum: int | None = None) -> dict[str, Any]:
    """Return the state of `env` and of the wrappers around it, as plain Python values and NumPy arrays.

    `checksum` is the `model_checksum` of the environment when it was made. Raises Inexact, with the reason,
    when the state cannot be captured in full.
    """
    encoder = Encoder()
    state: dict[str, Any] = {"layers": []}
    for layer in layers(env):
        values = {}
        for name, value in attributes(layer).items():
            try:
                values[name] = encoder.encode(value)
            except Inexact as error:
                raise Inexact(f"{type(layer).__name__}.{name} is or holds {error}") from None
        state["layers"].append(values)
    found = physics(env)
    if found is not None:
        import mujoco

        model, data = found
        if model_checksum(env) != checksum:
            raise Inexact("it changes its MuJoCo model while it runs")
        state["integration"] = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
        state["derived"] = np.concatenate([getattr(data, name).ravel() for name in DERIVED])
    return state


def reinstate(env: gymnasium.Env[Any, Any], state: dict[str, Any]) -> None:
    """Put `state`, captured from an environment with the same arguments, into `env` and its wrappers."""
    decoder = Decoder()
    for layer, values in zip(layers(env), state["layers"], strict=True):
        for name, value in values.items():
            put(layer, name, decoder.decode(value))
    found = physics(env)
    if found is not None:
        import mujoco

        model, data = found
        mujoco.mj_setState(model, data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
        fields = [getattr(data, name) for name in DERIVED]
        ends = np.cumsum([field.size for field in fields])[:-1]
        for field, values in zip(fields, np.split(state["derived"], ends), strict=True):
            field[...] = values.reshape(field.shape)


def put(layer: gymnasium.Env[Any, Any], name: str, value: Any) -> None:
    """Set an attribute. A live view into a simulator's memory is filled in place."""
    now = vars(layer).get(name)
    if isinstance(value, np.ndarray) and isinstance(now, np.ndarray) and is_foreign(now):
        now[...] = value
    else:
        setattr(layer, name, value)


def is_foreign(array: np.ndarray) -> bool:
    """Return whether the memory of `array` belongs to something that is no NumPy array."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return not isinstance(base, np.ndarray)


def configure_mujoco_log(console: bool) -> None:
    """Choose whether MuJoCo's warnings go to the console (stderr), and write no MUJOCO_LOG.TXT."""
    import mujoco

    config = mujoco.MjLogConfig.get()
    config.logto_console, config.logto_file = console, False
    mujoco.MjLogConfig.set(config)


@contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Suppress the notes of the model compiler, one per environment; errors are raised as usual.

    MUJOCO_LOG.TXT stays off afterwards too.
    """
    configure_mujoco_log(console=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "compiler attribute")  # how MjSpec prints them
            yield
    finally:
        configure_mujoco_log(console=True)


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
