"""Observations of any space that consists of numbers and choices, as one flat array per environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.envs.validation import InvalidReturn, described, numbers


class FlatObservations(spaces.Box):
    """The Box (size,) of the flattened observations of a `declared` space.

    The order and the one-hot vectors of choices are those of `gymnasium.spaces.flatten`. The precision is float32
    where that holds all values of the declared types, else float64. Raises UsageError for a space without a flat form.
    """

    def __init__(self, declared: Space[Any]) -> None:
        self.declared = declared
        self.is_box = isinstance(declared, spaces.Box)
        self._shape_of_box = declared.shape if self.is_box else None
        leaves = list(leaves_of(declared, "observation space"))
        wide = any(isinstance(leaf, spaces.Box) and is_wide(leaf.dtype) for leaf in leaves)
        size = sum(spaces.flatdim(leaf) for leaf in leaves)
        super().__init__(-np.inf, np.inf, (size,), np.float64 if wide else np.float32)

    def flatten(self, value: Any) -> NDArray[Any]:
        """Return an observation of the declared space as a new array (size,).

        Raises InvalidReturn, with what came and what was declared, for anything else.
        """
        if type(value) is np.ndarray and value.dtype == self.dtype and value.shape == self._shape_of_box:
            return value.flatten()  # the usual case, and a copy
        with np.errstate(over="ignore"):  # what is too large becomes inf, which the adapter reports
            if self.is_box:
                return numbers("observation", value, self.declared.shape or ()).astype(self.dtype).reshape(-1)
            parts = [part.astype(self.dtype) for part in parts_of(self.declared, value, "observation")]
        return np.concatenate(parts)


def is_wide(dtype: Any) -> bool:
    """Return whether float32 cannot hold the numbers of type `dtype`."""
    return bool(np.result_type(dtype, np.float32) != np.float32)


def leaves_of(space: Space[Any], name: str) -> Iterator[Space[Any]]:
    """Yield the spaces of numbers and choices that `space` consists of; raises UsageError for any other part."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            yield from leaves_of(inner, f"{name}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for place, inner in enumerate(space):
            yield from leaves_of(inner, f"{name}[{place}]")
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        yield space
    else:
        raise UsageError(
            f"its {name} is {type(space).__name__}, which has no fixed size: flowrl flattens Box, Discrete, "
            "MultiDiscrete, MultiBinary and Dict and Tuple of these. Put a wrapper of yours around it that makes one "
            "of them: env.wrappers: [my_wrappers.py:Mine]."
        )


def parts_of(space: Space[Any], value: Any, name: str) -> Iterator[NDArray[Any]]:
    """Yield the flat parts of an observation of `space`; raises InvalidReturn where it is not of that space."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            if not isinstance(value, Mapping) or key not in value:
                raise InvalidReturn(f"the {name} is {described(value)}, without the key {key!r} of its Dict space")
            yield from parts_of(inner, value[key], f"{name}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, Sequence) or len(value) != len(space):
            raise InvalidReturn(f"the {name} is {described(value)}, and its space a Tuple of {len(space)}")
        for place, inner in enumerate(space):
            yield from parts_of(inner, value[place], f"{name}[{place}]")
    elif isinstance(space, spaces.Discrete):
        yield one_hot(name, numbers(name, value, ()), int(space.start), int(space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        rows = zip(numbers(name, value, space.shape).flat, space.start.flat, space.nvec.flat, strict=True)
        for choice, first, count in rows:
            yield one_hot(name, choice, int(first), int(count))
    else:
        yield numbers(name, value, space.shape or ()).reshape(-1)


def one_hot(name: str, choice: Any, first: int, count: int) -> NDArray[np.float32]:
    """Return (count,) zeros with a one for `choice`, counted from `first`; raises InvalidReturn outside of these."""
    place = float(choice) - first
    if place not in range(count):
        raise InvalidReturn(f"the {name} is {float(choice):g}, and its space says {first} to {first + count - 1}")
    row = np.zeros(count, dtype=np.float32)
    row[int(place)] = 1
    return row


class FlatPart(NamedTuple):
    """A part of a flattened observation."""

    name: str  # 'goal', 'arm[0]'; '' for the only part of a space without parts
    start: int  # its first number
    size: int
    choices: bool  # whether it is one-hot vectors of choices

    def __str__(self) -> str:
        """'goal 0-2', 'contact 3', 'gear 4-8 (one-hot)'"""
        last = self.start + self.size - 1
        places = f"{self.start}-{last}" if self.size > 1 else str(self.start)
        return f"{self.name} {places}{' (one-hot)' if self.choices else ''}".lstrip()


def layout(space: Space[Any]) -> list[FlatPart]:
    """Return the parts of a flattened observation of `space` in their order; [] for a Box, which keeps its own."""
    if isinstance(space, spaces.Box):
        return []
    parts: list[FlatPart] = []
    start = 0
    for name, leaf in named_leaves(space, ""):
        size = spaces.flatdim(leaf)
        parts.append(FlatPart(name, start, size, isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete)))
        start += size
    return parts


MOST_PARTS = 10_000  # that a checkpoint names


def interface_parts(observation: Space[Any]) -> dict[str, dict[str, int]]:
    """Return the names and sizes of the parts of a flattened observation in their order, as the interface in a
    checkpoint holds them; {} where there are none, or where two have one name."""
    parts = [part for part in layout(declared_space(observation)) if part.size and part.name]
    sizes = {part.name: part.size for part in parts}
    return {"observation_parts": sizes} if 0 < len(sizes) == len(parts) <= MOST_PARTS else {}


def named_leaves(space: Space[Any], name: str) -> Iterator[tuple[str, Space[Any]]]:
    """Yield the spaces of numbers and choices that `space` consists of, by their names such as arm.joints or arm[0]."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            yield from named_leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        for place, inner in enumerate(space):
            yield from named_leaves(inner, f"{name}[{place}]")
    else:
        yield name, space


def said_layout(space: Space[Any]) -> str:
    """Return 'its Dict observation is flattened to 5 numbers: goal 0-2, point 3-4.', or '' for a Box."""
    parts = layout(space)
    if not parts:
        return ""
    total = parts[-1].start + parts[-1].size
    return f"its {type(space).__name__} observation is flattened to {total} numbers: {', '.join(map(str, parts))}."


def declared_space(observation: Space[Any]) -> Space[Any]:
    """Return the space of observations before they were flattened."""
    return observation.declared if isinstance(observation, FlatObservations) else observation


def declared(observation: spaces.Box) -> spaces.Box:
    """Return the observation space as the environment declares it; its flat form where that is no Box."""
    own = declared_space(observation)
    return own if isinstance(own, spaces.Box) else observation
