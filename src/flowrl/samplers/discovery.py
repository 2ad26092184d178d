"""The samplers on offer: every entry point of the group `flowrl.samplers`, and what its source says of it.

Nothing here imports a sampler, nor the packages around it, for they import torch, which costs seconds: the
source is read without running it.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "flowrl.samplers"
UNKNOWN = "?"
COUNTED = "counted"


@dataclass(frozen=True)
class Option:
    """A field of a sampler, as its source spells it."""

    name: str
    type: str
    default: str | None  # None: must be given


@dataclass(frozen=True)
class Description:
    """A row of `flowrl samplers`; `?` stands for what cannot be known without importing the sampler."""

    name: str
    order: int | str
    nfe_per_step: int | str  # `counted` where steps differ in cost, as in adaptive methods
    options: tuple[Option, ...] | str
    origin: str  # the distribution that offers the name, with its version
    target: str  # module:Class


def offers() -> dict[str, list[EntryPoint]]:
    """The entry points of each name: one, unless two distributions offer the same name."""
    by_name: dict[str, list[EntryPoint]] = {}
    for offer in entry_points(group=GROUP):
        by_name.setdefault(offer.name, []).append(offer)
    return by_name


def origin(offer: EntryPoint) -> str:
    """The distribution that offers it, and its version."""
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else UNKNOWN


def describe() -> list[Description]:
    """What is known of every registered sampler without importing it; a doubly offered name has two rows."""
    return [_describe(offer) for _, same in sorted(offers().items()) for offer in same]


def _describe(offer: EntryPoint) -> Description:
    classes = _lineage(offer.module, offer.attr)
    if not classes:
        return Description(offer.name, UNKNOWN, UNKNOWN, UNKNOWN, origin(offer), offer.value)
    constants = {name: value for source in reversed(classes) for name, value in _constants(source)}
    order, nfe_per_step = constants.get("order"), constants.get("nfe_per_step", UNKNOWN)
    unstated = COUNTED if nfe_per_step is None else UNKNOWN
    return Description(
        name=offer.name,
        order=order if isinstance(order, int) else UNKNOWN,
        nfe_per_step=nfe_per_step if isinstance(nfe_per_step, int) else unstated,
        options=tuple(_options(classes)),
        origin=origin(offer),
        target=offer.value,
    )


def defines_a_sampler(module: str) -> bool:
    """Whether a class in the source of `module` has `__call__`, its own or inherited."""
    names = [node.name for node in _source(module).body if isinstance(node, ast.ClassDef)]
    return any(_method(source, "__call__") for name in names for source in _lineage(module, name))


def _lineage(module: str, name: str) -> list[ast.ClassDef]:
    """The class `name` as the source of `module` spells it, then its base classes out of the same package.

    Empty where the class cannot be found.
    """
    found: list[ast.ClassDef] = []
    waiting, seen = [(module, name)], set()
    while waiting:
        here, name = place = waiting.pop(0)
        if place in seen or here.partition(".")[0] != module.partition(".")[0]:
            continue
        seen.add(place)
        for node in _source(here).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                found.append(node)
                waiting += [(here, base.id) for base in node.bases if isinstance(base, ast.Name)]
            elif isinstance(node, ast.ImportFrom):
                waiting += [
                    (_origin(node, here), alias.name)
                    for alias in node.names
                    if name == (alias.asname or alias.name)
                ]
    return found


def _origin(statement: ast.ImportFrom, module: str) -> str:
    """The module that a `from … import`, standing in `module`, imports from; '' where there is none."""
    path = _source_file(module)
    package = module if path and path.stem == "__init__" else module.rpartition(".")[0]
    try:
        return importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
    except ImportError:
        return ""


@cache
def _source(module: str) -> ast.Module:
    """The source of `module`; nothing where it cannot be found or read."""
    path = _source_file(module)
    try:
        return ast.parse(path.read_bytes()) if path else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


@cache
def _source_file(module: str) -> Path | None:
    """Where `module` stands, found without importing it or the packages around it."""
    top, *parts = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    qualified = top
    for part in parts:
        qualified = f"{qualified}.{part}"
        inside = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(qualified, inside) if inside else None
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _constants(source: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """`name = 3` and `name: ClassVar[int] = 3` in the body of a class."""
    for node in source.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.value.value


def _options(classes: Sequence[ast.ClassDef]) -> Iterator[Option]:
    """The arguments of a class's `__init__`, or else its annotated fields, as in a dataclass.

    `classes` are the class and its bases. As Python has it, what stands nearer wins, and a base's fields come
    first.
    """
    constructor = next(filter(None, (_method(source, "__init__") for source in classes)), None)
    if constructor is not None:
        yield from _arguments(constructor.args)
        return
    fields = {option.name: option for source in reversed(classes) for option in _fields(source)}
    yield from fields.values()


def _method(source: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next(
        (node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == name), None
    )


def _fields(source: ast.ClassDef) -> Iterator[Option]:
    for node in source.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            if "ClassVar" not in annotation:
                yield Option(node.target.id, annotation, ast.unparse(node.value) if node.value else None)


def _arguments(signature: ast.arguments) -> Iterator[Option]:
    positional = [*signature.posonlyargs, *signature.args][1:]  # without self
    required = [None] * (len(positional) - len(signature.defaults))
    defaults = [*required, *signature.defaults, *signature.kw_defaults]
    for argument, default in zip([*positional, *signature.kwonlyargs], defaults, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else UNKNOWN
        yield Option(argument.arg, annotation, ast.unparse(default) if default else None)
