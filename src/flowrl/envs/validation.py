"""Checks of what a Gymnasium environment returned: which shapes, types and forms of a value are accepted."""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUCCESS = ("is_success", "success")  # the info keys under which environments report success
NUMBERS = "biuf"  # kinds of NumPy types: bool, signed and unsigned integers, floats

SIGNATURE = "step must return 5 values (observation, reward, terminated, truncated, info)"
OLD_STEP = f"{SIGNATURE}; 4 values, with one `done`, are the API of the old gym: port it, or wrap it with shimmy"
OLD_RESET = "reset must return (observation, info) with a dict; the observation alone is the API of the old gym"


class InvalidReturn(Exception):
    """What an environment returned cannot be used; the message names it, what it is, and what it should be."""


def transition(result: Any) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
    """Return the five values of a step; raises InvalidReturn for anything else."""
    if not isinstance(result, tuple | list):
        raise InvalidReturn(f"step returned {described(result)}: {SIGNATURE}")
    if len(result) != 5:
        raise InvalidReturn(f"step returned {len(result)} values: {OLD_STEP if len(result) == 4 else SIGNATURE}")
    if type(result[4]) is not dict and not isinstance(result[4], Mapping):
        raise InvalidReturn(f"the info that step returned is {described(result[4])}, not a dict")
    obs, reward, terminated, truncated, info = result
    return obs, reward, terminated, truncated, info


def start(result: Any) -> Any:
    """Return the observation of a reset; raises InvalidReturn for a result that is not (observation, info)."""
    if not isinstance(result, tuple | list) or len(result) != 2 or not isinstance(result[1], Mapping):
        raise InvalidReturn(f"reset returned {described(result)}: {OLD_RESET}")
    return result[0]


def number(name: str, value: Any) -> float:
    """Return `value`, a number or an array of one, as a float; raises InvalidReturn for anything else."""
    if isinstance(value, float | np.floating):
        return float(value)
    array = as_numbers(value)
    if array is None or array.size != 1:
        raise InvalidReturn(f"the {name} is {described(value)}, not a number")
    return float(array.reshape(-1)[0])


def flag(name: str, value: Any) -> bool:
    """Return `value`, a bool, 0 or 1 or an array of one of these, as a bool; raises InvalidReturn for anything else."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    array = as_numbers(value)
    if array is None or array.size != 1 or array.reshape(-1)[0] not in (0, 1):
        raise InvalidReturn(f"{name} is {described(value)}, not True or False")
    return bool(array.reshape(-1)[0])


def success(info: Mapping[str, Any]) -> dict[str, float]:
    """Return {"is_success": 1.0 or 0.0} where the `info` of an episode's end reports it, else {}.

    None and NaN count as no report. Raises InvalidReturn for what is neither true nor false.
    """
    for key in SUCCESS:
        value = info.get(key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        return {SUCCESS[0]: float(flag(f"info[{key!r}] at the end of an episode", value))}
    return {}


def numbers(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `value` as an array of numbers of `shape`, perhaps the same memory; raises InvalidReturn otherwise."""
    array = as_numbers(value)
    if array is None:
        raise InvalidReturn(f"the {name} is {described(value)}, not an array of numbers of shape {shape}")
    if array.shape != shape:
        raise InvalidReturn(f"the {name} has shape {array.shape}, and its space says {shape}")
    return array


def as_numbers(value: Any) -> NDArray[Any] | None:
    """Return `value` as an array, or None where it is not an array of real numbers."""
    if type(value) is np.ndarray and value.dtype.kind in NUMBERS:
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.asarray(value)
    except Exception:
        return None
    return array if array.dtype.kind in NUMBERS else None


def described(value: Any) -> str:
    """Describe a value in a few words: 'None', "'yes' (str)", 'an array of shape (2,) and type float64'."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"{' '.join(reprlib.repr(value).split())} ({type(value).__name__})"
