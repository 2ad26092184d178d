"""The wrappers of a recipe, `env.wrappers`: by their names in `gymnasium.wrappers`, or code of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import gymnasium
import gymnasium.wrappers

from flowrl.contracts import user_code
from flowrl.contracts.errors import FlowrlError, UsageError, did_you_mean, in_one_line

REFUSED = {
    "Autoreset": "flowrl restarts episodes itself",
    "HumanRendering": "flowrl opens no window; `flowrl play` records videos",
    "RenderCollection": "flowrl collects pictures itself; `flowrl play` records videos",
    "JaxToTorch": "flowrl converts observations itself",
    "NumpyToTorch": "flowrl converts observations itself",
}
SYNONYMS = {"FrameStack": "FrameStackObservation", "VecNormalize": "NormalizeObservation"} | {
    name.removesuffix("Observation"): name for name in gymnasium.wrappers.__all__ if name.endswith("Observation")
}


def each(written: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the keyword arguments of each wrapper in `env.wrappers`, which has been checked."""
    for item in written:
        if isinstance(item, str):
            yield item, {}
        else:
            yield from ((name, dict(arguments or {})) for name, arguments in item.items())


def check_form(written: Sequence[Any]) -> None:
    """Raise ValueError unless each item of `env.wrappers` is a name, or one name with keyword arguments."""
    for item in written:
        if isinstance(item, str) and item:
            continue
        single = isinstance(item, Mapping) and len(item) == 1
        if not single or not all(isinstance(value, Mapping | None) for value in item.values()):
            raise ValueError(
                "a wrapper is a name, such as FlattenObservation or my.py:Mine, or a name with its arguments: "
                f"{{FrameStackObservation: {{stack_size: 4}}}}; got {item!r}"
            )


def wrapped(env: gymnasium.Env[Any, Any], written: Sequence[Any]) -> gymnasium.Env[Any, Any]:
    """Put the wrappers of `env.wrappers` around `env`: the first is the innermost.

    Raises UsageError for a name that does not exist, for code that the user has not named, and for arguments that do
    not fit.
    """
    for name, arguments in each(written):
        kind = find(name)
        try:
            outer = kind(env, **arguments)
        except FlowrlError:
            raise
        except Exception as error:
            raise UsageError(
                f"env.wrappers: {name} cannot be put around the environment: {in_one_line(error)}.{_takes(kind)}"
            ) from error
        if not isinstance(outer, gymnasium.Env):
            raise UsageError(
                f"env.wrappers: {name} returned {type(outer).__name__}, not a gymnasium.Env. A wrapper is a class "
                "derived from gymnasium.Wrapper, or a function that takes an environment and returns one."
            )
        env = outer
    return env


@cache
def _of_gymnasium(name: str) -> Any:
    return getattr(gymnasium.wrappers, name)


def find(name: str) -> Any:
    """Return the class or function of a wrapper; raises UsageError."""
    if user_code.is_code(name):
        if not user_code.parse(name).attribute:
            raise UsageError(f"env.wrappers: {name!r} names no wrapper: write {name}:Name.")
        target = user_code.load(name, "env.wrappers")
        if not callable(target):
            raise UsageError(
                f"env.wrappers: {name!r} is {type(target).__name__}, not a class derived from gymnasium.Wrapper."
            )
        return target
    known = [known for known in gymnasium.wrappers.__all__ if known != "vector"]
    if name not in known:
        raise UsageError(
            f"env.wrappers: there is no wrapper {name!r} in gymnasium.wrappers.{did_you_mean(name, known, SYNONYMS)} "
            "One of your own is named by its file, as in my_wrappers.py:Mine."
        )
    if name in REFUSED:
        raise UsageError(f"env.wrappers: {name} cannot be used: {REFUSED[name]}. Leave it out.")
    return _of_gymnasium(name)


def _takes(kind: Any) -> str:
    """Return ' It takes stack_size, padding_type.'"""
    try:
        parameters = list(inspect.signature(kind).parameters.values())[1:]
    except (TypeError, ValueError):
        return ""
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return f" It takes {', '.join(names)}." if names else ""
