"""From a sampler's name to the sampler: an entry point of group `flowrl.samplers`, or code such as `file.py:Class`.

The built-in samplers use the same entry points as third-party ones; `flowrl.samplers.discovery` lists them all.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError

from flowrl.contracts import user_code
from flowrl.contracts.errors import FlowrlError, UsageError, did_you_mean, in_one_line
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.offers import origin
from flowrl.contracts.settings import Settings
from flowrl.samplers.discovery import brief, fault, offers

if TYPE_CHECKING:
    from flowrl.contracts.protocols import Sampler

SYNONYMS = {
    "forward_euler": "euler",
    "rk1": "euler",
    "ddim": "euler",
    "rk2": "midpoint",
    "heun2": "heun",
    "trapezoid": "heun",
    "rk45": "dopri5",
    "ode45": "dopri5",
    "runge_kutta": "rk4",
    "adams_bashforth": "ab2",
    # of options
    "nfe": "steps",
    "n_steps": "steps",
    "num_steps": "steps",
    "tol": "rtol",
    "max_steps": "max_nfe",
}


class SamplerRefused(UsageError):
    """A block of settings gives no sampler; `key` is the wrong key of that block, or None for all of it."""

    def __init__(self, message: str, key: str | None = "name") -> None:
        super().__init__(message)
        self.key = key


MOST_NUMBERS = 128  # of a list in a list


def _plain(option: object, depth: int = 0) -> object:
    """Return `option` if it is a finite number, a string or a boolean, a list of these, or a list of such lists; raise
    ValueError otherwise."""
    if isinstance(option, str | int) or (isinstance(option, float) and math.isfinite(option)):
        return option
    if isinstance(option, list | tuple) and depth < 2 and len(option) <= MOST_NUMBERS:
        return [_plain(item, depth + 1) for item in option]
    raise ValueError("an option of a sampler is a finite number, a string, true/false, or a list of these")


class SamplerSettings(Settings):
    """Which sampler carries noise to actions, and with which options."""

    model_config = ConfigDict(extra="allow")
    # any further key is an option of that sampler, checked when the sampler is made
    __pydantic_extra__: dict[str, Annotated[object, AfterValidator(_plain)]] = Field(init=False)

    name: str = Field("euler", description="A name from `flowrl samplers`, or path/file.py:Class.")
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Steps of a fixed grid: more of them follow the flow more closely, and cost more.",
    )

    def options(self) -> dict[str, object]:
        """Return the options that were given, as keyword arguments of the sampler."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return {**steps, **(self.__pydantic_extra__ or {})}


def is_file(name: str) -> bool:
    """Return whether `name` is that of a file with the numbers of a fitted sampler, rather than of a sampler."""
    return name.endswith((".yaml", ".yml"))


def general() -> list[str]:
    """List the names of the registered samplers that are made for any velocity, sorted: not those with a true
    `specific`, whose numbers a file has to give."""
    return [name for name in names() if not is_specific(name)]


def is_specific(name: str) -> bool:
    """Return whether the sampler `name` cannot be made without numbers that were fitted to a policy.

    Raises SamplerRefused where it cannot be loaded.
    """
    return bool(getattr(_load(name), "specific", False))


def names() -> list[str]:
    """List the names of the registered samplers, sorted."""
    return sorted(offers())


def make(name: str, options: Mapping[str, object] | None = None) -> Sampler:
    """Make the sampler `name` (an entry point's, or path/file.py:Class) with `options` as its fields.

    Raises SamplerRefused for an unknown name or one that two packages register, for code that the user has not named
    (`flowrl.contracts.user_code`) or that cannot be loaded, and for an option that the sampler does not have or does
    not accept.
    """
    options = {option: _as_tuple(value) for option, value in (options or {}).items()}
    if is_file(name):
        raise SamplerRefused(
            f"sampler {name!r} is a file, which is opened only where you name it yourself: --sampler {name}."
        )
    try:
        target = _load(name)
        _check_options(name, target, options)
        return _construct(name, target, options)
    except FlowrlError:
        raise
    except BaseException as error:  # of the sampler's code, SystemExit too
        raise_interrupt(error)
        raise SamplerRefused(f"sampler {name!r} cannot be made: {in_one_line(error)}.") from error


def _as_tuple(value: object) -> object:
    """Return a list, and the lists in it, as tuples; a sampler is immutable."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _construct(name: str, target: type[Any], options: dict[str, object]) -> Sampler:
    try:
        sampler: Sampler = target(**options)
    except (TypeError, ValueError) as error:
        named = (option for option in options if re.search(rf"\b{re.escape(option)}\b", str(error)))
        raise SamplerRefused(f"sampler {name!r}: {error}.", next(named, None)) from error
    return sampler


def _load(name: str) -> type[Any]:
    target = _load_code(name) if user_code.is_code(name) else _load_entry_point(name)
    if reason := fault(target):
        raise SamplerRefused(f"sampler {name!r}: {reason}.")
    return target


def _load_entry_point(name: str) -> Any:
    registered = offers()
    if name not in registered:
        raise SamplerRefused(
            f"there is no sampler {name!r}.{did_you_mean(name, registered, SYNONYMS)} "
            f"Known: {', '.join(sorted(registered))}; or give path/file.py:Class."
        )
    first, *others = registered[name]
    if others:
        raise SamplerRefused(
            f"sampler {name!r}: {'two' if len(others) == 1 else len(others) + 1} packages register a sampler of "
            f"this name: {' and '.join(origin(offer) for offer in registered[name])}; uninstall one of them, or "
            "ask its author to rename it."
        )
    try:
        return first.load()
    except BaseException as error:
        raise_interrupt(error)
        raise SamplerRefused(
            f"the sampler {name!r} of {origin(first)} ({first.value}) cannot be loaded: {brief(error)}."
        ) from error


def _load_code(name: str) -> Any:
    code = user_code.parse(name)
    if not code.source or not code.attribute.isidentifier():
        example = code.source if code.is_file else "path/file.py"
        raise SamplerRefused(f"{name!r} names no sampler: give a name from `flowrl samplers`, or {example}:Class.")
    try:
        return user_code.load(name, "sampler")
    except UsageError as error:
        raise SamplerRefused(str(error)) from error


def _check_options(name: str, target: type[Any], options: dict[str, object]) -> None:
    """Raise SamplerRefused unless `target` takes every one of `options`, and each with its annotated type."""
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = None if takes_any else next((option for option in options if option not in parameters), None)
    if unknown is not None:
        known = f"its options: {', '.join(parameters)}" if parameters else "it has no options"
        hint = did_you_mean(unknown, parameters, SYNONYMS)
        raise SamplerRefused(f"sampler {name!r} has no option {unknown!r} ({known}).{hint}", unknown)
    try:
        annotations = typing.get_type_hints(target.__init__)
    except Exception:  # annotations of third-party code may not resolve: then the sampler itself must check
        return
    for option in [option for option in options if option in annotations]:
        _check_type(name, option, annotations[option], options[option])


def _check_type(name: str, option: str, annotation: Any, value: object) -> None:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        given = list(value) if isinstance(value, tuple) else value
        message = f"sampler {name!r}, option {option!r}: {reason[0].lower()}{reason[1:]}, not {given!r}."
        raise SamplerRefused(message, option) from error
    except PydanticUserError:  # a type pydantic has no schema for: the sampler itself must check
        return
