"""The registered samplers: every entry point of the group `flowrl.samplers`, and what its class declares.

Torch is imported only by `describe` and `defines_a_sampler`, together with the samplers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint

from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.offers import of_group, origin

GROUP = "flowrl.samplers"
COUNTED = "counted"
UNDECLARED = object()


@dataclass(frozen=True)
class Option:
    """An option of a sampler: a parameter of its class."""

    name: str
    type: str | None  # None: not annotated
    default: str | None  # None: must be given


@dataclass(frozen=True)
class SamplerDescription:
    """A row of `flowrl samplers`; None where the sampler declares nothing."""

    name: str
    order: int | None
    nfe_per_step: int | str | None  # `counted` where steps differ in cost, as in adaptive methods
    options: tuple[Option, ...]
    origin: str  # the distribution that registers the name, with its version
    target: str  # module:Class
    error: str | None = None  # why the sampler cannot be used


def offers() -> dict[str, list[EntryPoint]]:
    """Find the entry points of each name: one, unless two distributions register the same name."""
    return of_group(GROUP)


def describe() -> list[SamplerDescription]:
    """Import every registered sampler and describe it, sorted by name; a name registered twice has two rows.

    A sampler that cannot be imported is listed with the reason.
    """
    return [_describe(offer) for _, same in sorted(offers().items()) for offer in same]


def _describe(offer: EntryPoint) -> SamplerDescription:
    row = SamplerDescription(offer.name, None, None, (), origin(offer), offer.value)
    try:
        target = offer.load()
        if error := fault(target):
            return replace(row, error=error)
        counted = getattr(target, "nfe_per_step", UNDECLARED) is None
        return replace(
            row,
            order=_declared(target, "order"),
            nfe_per_step=COUNTED if counted else _declared(target, "nfe_per_step"),
            options=tuple(_options(target)),
        )
    except BaseException as error:  # a package may fail in any way; the others are still listed
        raise_interrupt(error)
        return replace(row, error=brief(error))


def _declared(target: type, attribute: str) -> int | None:
    value = getattr(target, attribute, None)
    return value if isinstance(value, int) else None  # a property has its value in the object only


def _options(target: type) -> Iterator[Option]:
    for name, parameter in inspect.signature(target).parameters.items():
        annotation, default = parameter.annotation, parameter.default
        named = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        yield Option(
            name,
            None if annotation is parameter.empty else named,
            None if default is parameter.empty else repr(default),
        )


def fault(target: object) -> str:
    """Explain why `target` cannot be a sampler's class; empty where it can be."""
    if not isinstance(target, type):
        return (
            f"it is a {type(target).__name__}, not a class; write a class whose fields are the options and whose "
            "__call__(velocity, x, t0, t1) returns x at t1"
        )
    if not any("__call__" in vars(ancestor) for ancestor in target.__mro__):
        return f"a {target.__name__} cannot be called; give it __call__(velocity, x, t0, t1)"
    return ""


def brief(error: BaseException) -> str:
    """Format an exception as `ModuleNotFoundError: No module named 'x'`, with the line of a syntax error."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    return f"{type(error).__name__}: {error}"


def defines_a_sampler(module: str) -> bool:
    """Import `module` and report whether it defines a class that can be a sampler."""
    return any(
        isinstance(value, type) and value.__module__ == module and not fault(value)
        for value in vars(import_module(module)).values()
    )
