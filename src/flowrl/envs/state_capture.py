"""The exact state of an environment: all that its next steps depend on, bit for bit.

`capture` reads it into plain Python values and NumPy arrays, `reinstate` puts it into a new environment with the
same arguments. It consists of:

* the plain attributes of the environment and of every wrapper around it (numbers, strings, arrays, containers
  of these, random generators), among them TimeLimit's count and the environment's own generator;
* for MuJoCo environments the integration state, and the derived fields that observations and rewards read:
  they lag the integration state by a substep, so `mj_forward` must not recompute them;
* running statistics: objects whose attributes are numbers and arrays, such as Gymnasium's RunningMeanStd;
* in a worker process, the global generators of Python, NumPy and torch, which are the worker's own.

`carry_over` puts only the part of it that outlives an episode into an environment that an evaluation will reset.

An environment with any other attribute that may change (a Box2D world, an emulator) cannot be captured exactly,
and `capture` names that attribute. Module globals and the memory of C extensions are not seen.
"""

from __future__ import annotations

import types
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from flowrl.envs.state_encoding import Decoder, Encoder, Inexact, bytes_of, is_number_array

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

PLAIN_SIZE = type("Plain", (), {}).__basicsize__  # of an object without memory beyond its attributes


class Statistics(dict[str, Any]):
    """The attributes of an object of which `is_record` is true."""


def encode_attribute(encoder: Encoder, value: Any) -> Any:
    """Encode one attribute of a layer, which may also be an object of running statistics."""
    if is_record(value):
        return {"kind": "statistics", "value": encoder.encode(dict(vars(value)))}
    return encoder.encode(value)


def decode_attribute(decoder: Decoder, value: Any) -> Any:
    """Return what `encode_attribute` was given; Statistics for an object."""
    if isinstance(value, dict) and value["kind"] == "statistics":
        return Statistics(decoder.decode(value["value"]))
    return decoder.decode(value)


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


def is_record(value: Any) -> bool:
    """Return whether `value` is an object of a Python class whose attributes are all numbers or arrays of numbers."""
    held = getattr(value, "__dict__", None)
    if isinstance(value, type) or not isinstance(held, dict) or not held or type(value).__basicsize__ != PLAIN_SIZE:
        return False
    return all(type(item) in (bool, int, float) or is_number_array(item) for item in held.values())


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
                values[name] = encode_attribute(encoder, value)
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
    put_attributes(env, state)
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
    """Set an attribute. A live view into a simulator's memory is filled in place, and so are running statistics."""
    now = vars(layer).get(name)
    if isinstance(value, Statistics):
        if not is_record(now) or vars(now).keys() != value.keys():
            raise ValueError(f"{type(layer).__name__}.{name} has no attributes {', '.join(value)}")
        vars(now).update(value)
    elif isinstance(value, np.ndarray) and isinstance(now, np.ndarray) and is_foreign(now):
        now[...] = value
    else:
        setattr(layer, name, value)


def statistics(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """Return the running statistics in `env` and its wrappers, in the form of `capture`, for `carry_over`."""
    encoder = Encoder()
    found = [{name: value for name, value in attributes(layer).items() if is_record(value)} for layer in layers(env)]
    return {"layers": [{name: encode_attribute(encoder, value) for name, value in each.items()} for each in found]}


def put_attributes(env: gymnasium.Env[Any, Any], state: dict[str, Any]) -> None:
    """Put the attributes in the result of `capture` or `statistics` into `env` and its wrappers."""
    decoder = Decoder()
    for layer, values in zip(layers(env), state["layers"], strict=True):
        for name, value in values.items():
            put(layer, name, decode_attribute(decoder, value))


def carry_over(env: gymnasium.Env[Any, Any], trained: dict[str, Any], fresh: dict[str, Any] | None) -> None:
    """Put into `env`, before its reset, the part of the state `trained` that may outlive an episode, and freeze it.

    These are running statistics, and numbers and arrays that have the type and shape of the attribute and are not what
    they are in `fresh`, the state of a new environment with the arguments of the training. The running statistics of
    Gymnasium's wrappers are not updated any more, so that an evaluation does not depend on its length. Raises
    ValueError for the state of other wrappers.
    """
    found, decoder, decoder_of_fresh = layers(env), Decoder(), Decoder()
    before = [{}] * len(found) if fresh is None else fresh["layers"]
    if not len(found) == len(trained["layers"]) == len(before):
        raise ValueError("the environment has other wrappers")
    for layer, values, old in zip(found, trained["layers"], before, strict=True):
        unchanged = {name: decode_attribute(decoder_of_fresh, value) for name, value in old.items()}
        for name, value in values.items():
            carried, now = decode_attribute(decoder, value), vars(layer).get(name)
            if isinstance(carried, Statistics) or (
                is_like(carried, now) and not (name in unchanged and is_like(carried, unchanged[name], equal=True))
            ):
                put(layer, name, carried)
        if hasattr(layer, "update_running_mean"):
            layer.update_running_mean = False


def is_like(value: Any, other: Any, *, equal: bool = False) -> bool:
    """Return whether both are numbers, or arrays of one shape, of the same type; with `equal`, and are equal."""
    if type(value) is not type(other) or not (isinstance(value, bool | int | float) or is_number_array(value)):
        return False
    return np.shape(value) == np.shape(other) and not (equal and not np.array_equal(value, other, equal_nan=True))


LARGE_STATE = 16 * 2**20  # bytes from which on the state of all environments is reported


def remark_on_size(id: str, states: list[dict[str, Any]]) -> str:
    """Return a sentence on captured states that make every checkpoint large, or ''."""
    total, name, largest = 0, "", 0
    for values in (layer for state in states for layer in state["layers"]):
        for attribute, value in values.items():
            size = bytes_of(value)
            total += size
            if size > largest:
                name, largest = attribute, size
    if total < LARGE_STATE:
        return ""
    return (
        f"the state of the {len(states)} environments of {id} adds {total / 2**20:,.0f} MB to every checkpoint, most "
        f"of it {name!r} ({largest / 2**20:,.0f} MB in one of them). Keep what never changes in a class or "
        "module attribute."
    )


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
