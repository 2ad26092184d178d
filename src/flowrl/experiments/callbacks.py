"""Callbacks: callables of the user that see the metrics of every iteration and may stop the run.

A callback is named `path/file.py:name` or `package.module:name`, in a recipe of the user's own (`callbacks`) or with
`--callback`. It is called with a dict: the metrics of the iteration, among them `iteration`, `env_steps` and `seconds`.
It stops the run by returning True. A class is made once, without arguments, and its instance is called; what has a
method `close` is closed when the training ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowrl.config.recipe import Place, Recipe
from flowrl.config.schema import Config, composed
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError, in_one_line
from flowrl.contracts.interrupts import raise_interrupt

Callback = Callable[[dict[str, float]], object]

KEY = ("callbacks",)
OPTION = "--callback"


class CallbackFailed(UsageError):
    """A callback raised an exception, or returned something else than True, False or None."""


@dataclass(frozen=True)
class NamedCallback:
    """A callback, and the name that messages give it."""

    name: str
    call: Callback


class Callbacks:
    """Calls the callbacks of a run one after the other; `stopped_by` names the first that asked to stop."""

    def __init__(self, members: Sequence[NamedCallback]) -> None:
        self._members = members
        self.stopped_by: str | None = None

    def __call__(self, metrics: Mapping[str, float]) -> None:
        """Call all callbacks with a copy of the metrics of an iteration; raises CallbackFailed."""
        for member in self._members:
            try:
                answer = member.call(dict(metrics))
            except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                raise_interrupt(error)
                raise CallbackFailed(f"the callback {member.name} failed: {in_one_line(error)}.") from error
            if answer is not None and not isinstance(answer, bool | np.bool_):
                raise CallbackFailed(
                    f"the callback {member.name} returned a {type(answer).__name__}: expected True to stop the run, "
                    "else False or None."
                )
            if answer and self.stopped_by is None:
                self.stopped_by = member.name

    def close(self) -> None:
        """Call `close` of every callback that has it; raises CallbackFailed."""
        for member in self._members:
            try:
                if callable(close := getattr(member.call, "close", None)):
                    close()
            except BaseException as error:
                raise_interrupt(error)
                raise CallbackFailed(f"close() of the callback {member.name} failed: {in_one_line(error)}.") from error


def with_options(source: Recipe, named: Sequence[str]) -> Recipe:
    """Return the recipe with the callbacks that `--callback` names after its own, each once."""
    if not named:
        return source
    before = composed(source).values.get(KEY[0]) or []
    before = list(before) if isinstance(before, list | tuple) else [before]
    places = dict(source.places)
    values = source.values | {KEY[0]: list(dict.fromkeys([*before, *named]))}
    places[KEY] = Place(f"{OPTION} {named[0]}", None, KEY)
    for number, text in enumerate(values[KEY[0]]):
        if text in named:
            places[*KEY, number] = Place(f"{OPTION} {text}", None, ())
        else:
            places[*KEY, number] = source.place((*KEY, number))
    return replace(source, values=values, places=places)


def check(config: Config) -> None:
    """Load the code of the callbacks of `config`, without making anything of it; raises UsageError as `load` does."""
    for text in config.callbacks:
        _refuse_uncallable(text, user_code.load(text, KEY[0]))


def load(config: Config, own: Sequence[Callback] = ()) -> Callbacks:
    """Load the callbacks of `config`, followed by the callables `own`, which Python code has given.

    Raises UsageError for code that the user has not named or that cannot be loaded, and for what cannot be called.
    """
    named = [NamedCallback(text, _made(text, user_code.load(text, KEY[0]))) for text in config.callbacks]
    return Callbacks([*named, *(NamedCallback(_name_of(call), call) for call in own)])


def _made(text: str, target: Any) -> Callback:
    if isinstance(target, type):
        try:
            target = target()
        except BaseException as error:
            raise_interrupt(error)
            raise UsageError(f"callbacks {text!r}: the class cannot be made: {in_one_line(error)}.") from error
    _refuse_uncallable(text, target)
    return target


def _refuse_uncallable(text: str, target: Any) -> None:
    if not callable(target):
        raise UsageError(
            f"callbacks {text!r} is a {type(target).__name__}, which cannot be called. Name a function that takes the "
            "metrics of an iteration, as in my_file.py:my_function."
        )


def _name_of(call: Callback) -> str:
    return getattr(call, "__qualname__", type(call).__name__)
