"""Reading a policy's C file back, so that a file from anyone can be compiled without running code of theirs.

The numbers in the file become a `Program`; the file that this program gives must be the same, to the letter. So it
holds nothing but numbers, and sizes that fit them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flowrl.contracts.errors import CheckpointError
from flowrl.deployment import c_source
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import (
    ACTIVATIONS,
    Array,
    Bounds,
    FlowPart,
    Layer,
    MixtureNode,
    MixturePart,
    Program,
    ProgramNode,
)

MOST_STACK_NUMBERS = 1_000_000  # that the arrays of one action may have together

_DEFINE = re.compile(r"^#define ([A-Z_]+)(?:\(\w\))? ?(.*)$", re.MULTILINE)
_ARRAY = re.compile(r"^static const (?:float|unsigned char) (\w+)\[\d+\] = \{\n([^}]*)\};$", re.MULTILINE)


class ReadSource(NamedTuple):
    """What a C file of a policy holds."""

    program: Program
    fixed: Array | None  # (action,): the draw of fixed noise


def read(text: str, name: str, origin: str) -> ReadSource:
    """Return the program in policy.c `text`, whose functions begin with `name`; the times of its nodes are not in it.

    Raises CheckpointError, which names the file `origin`, for a file that this version would not have written.
    """
    title, _, rest = text.partition("\n")
    before, after = c_source.renamed(c_source.template(c_source.SOURCE), name).split(c_source.NUMBERS)
    if rest.startswith(before) and rest.endswith(after):
        try:
            found = _read(rest[len(before) : len(rest) - len(after)])
            noise = NoiseChoice("input" if found.fixed is None else "fixed")
            if c_source.source(found.program, noise, found.fixed, name, title[3:-3]) == text:
                return found
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            pass
    raise CheckpointError(
        f"{origin} is not as this version of flowrl writes it, so compiling it could run code of others. Export the "
        "policy again; or, if you trust the file, use its Makefile and load policy.so with ctypes."
    )


def _read(text: str) -> ReadSource:
    """Read the numbers; raises KeyError or ValueError where they do not fit one another."""
    defines = dict(_DEFINE.findall(text))
    arrays = {name: _numbers(body) for name, body in _ARRAY.findall(text)}
    size = {key: int(defines[key]) for key in ("OBS", "ACT", "FIRST", "WIDEST", "OUTPUTS_PADDED", "NODES")}
    size |= {"MEMORY": int(defines.get("MEMORY", 1)), "COMPONENTS": int(defines.get("COMPONENTS", 0))}
    stack = size["OBS"] + size["FIRST"] + 2 * size["WIDEST"] + 3 * size["ACT"] + size["COMPONENTS"]
    stack += (2 + size["MEMORY"]) * size["OUTPUTS_PADDED"]
    if min(size.values()) < 0 or size["MEMORY"] < 1:
        raise ValueError("a size is negative, or the plan keeps no velocity")
    if not 0 < stack < MOST_STACK_NUMBERS or defines["ACTIVATION"].lower() not in ACTIVATIONS:
        raise ValueError("the sizes are out of range")
    spread = arrays["spread"] if "STATE_DEPENDENT" in defines else None
    mixture = _mixture(arrays, size) if "COMPONENTS" in defines else None
    outputs = size["ACT"] * (1 if spread is None else 2)
    if mixture is not None:
        outputs = mixture.components * (size["ACT"] + 1)
    widths, layers = _layers(defines, arrays, outputs)
    first = widths[0]
    program = Program(
        shift=arrays["shift"],
        scale=arrays["scale"],
        limit=_float(defines, "INPUT_LIMIT"),
        observation_weights=_untiled(arrays["observation_weights"], first, size["OBS"]),
        bias=_unfilled(arrays["first_bias"], first),
        layers=layers,
        activation=defines["ACTIVATION"].lower(),
        flow=mixture or (_flow(arrays, first, size) if size["NODES"] else None),
        std=arrays.get("deviation"),
        spread=spread,
        noise_scale=float(defines["NOISE_SCALE"].rstrip("f")),
        action_limit=_float(defines, "ACTION_LIMIT"),
        bounds=_bounds(defines, arrays),
    )
    for key, wanted in SHAPES.items():
        if key in arrays and len(arrays[key]) != wanted(size):
            raise ValueError(f"{key} has another size")
    return ReadSource(program, arrays.get("fixed_noise"))


SHAPES: dict[str, Callable[[dict[str, int]], int]] = {
    **dict.fromkeys(("shift", "scale"), lambda size: size["OBS"]),
    **dict.fromkeys(
        ("deviation", "spread", "fixed_noise", "bounded", "centre", "half", "low", "high"), lambda size: size["ACT"]
    ),
    **dict.fromkeys(("of_output", "of_point", "ends_step", "times"), lambda size: size["NODES"]),
}


def _layers(defines: dict[str, str], arrays: dict[str, Array], outputs: int) -> tuple[list[int], tuple[Layer, ...]]:
    """Return the hidden widths, and the layers after the first."""
    calls = re.findall(r"L\(\w+, \w+, \w, \w, (\d+), \d+\)", defines["HIDDEN_LAYERS"])
    widths = [*map(int, calls), int(defines["LAST_INPUTS"])]
    layers = [
        (_untiled(arrays[f"w_{k}"], widths[k + 1], widths[k]), _unfilled(arrays[f"b_{k}"], widths[k + 1]))
        for k in range(len(calls))
    ]
    last = _untiled(arrays["last_weights"], outputs, widths[-1])
    return widths, (*layers, (last, _unfilled(arrays["last_bias"], outputs)))


def _flow(arrays: dict[str, Array], first: int, size: dict[str, int]) -> FlowPart:
    count = size["NODES"]
    shares = arrays["time_shares"].reshape(count, size["FIRST"])[:, :first]
    of_output, of_point = arrays.get("of_output", np.ones(count)), arrays.get("of_point", np.zeros(count))
    rows = zip(shares, of_output.tolist(), of_point.tolist(), _terms(arrays, size), strict=True)
    nodes = (ProgramNode(0.0, share, output, point, *terms) for share, output, point, terms in rows)
    return FlowPart(_untiled(arrays["point_weights"], first, size["ACT"]), tuple(nodes))


def _mixture(arrays: dict[str, Array], size: dict[str, int]) -> MixturePart:
    count, components = size["NODES"], size["COMPONENTS"]
    by_component = (count, components, size["ACT"])
    precision, slope = (arrays[name].reshape(by_component) for name in ("precision", "slope"))
    offset = arrays["offset"].reshape(count, components)
    rows = zip(arrays["times"].tolist(), precision, slope, offset, _terms(arrays, size), strict=True)
    return MixturePart(tuple(MixtureNode(t, p, s, o, *terms) for t, p, s, o, terms in rows))


def _terms(arrays: dict[str, Array], size: dict[str, int]) -> list[tuple[tuple[float, ...], bool]]:
    """Return the weights of each node, and whether it ends a step."""
    weights = arrays["step_weights"].reshape(size["NODES"], size["MEMORY"]).tolist()
    return list(zip(map(tuple, weights), arrays["ends_step"].astype(bool).tolist(), strict=True))


def _bounds(defines: dict[str, str], arrays: dict[str, Array]) -> Bounds | None:
    for squash in ("tanh", "clip"):
        if f"SQUASH_{squash.upper()}" in defines:
            sides = {name: arrays[name] for name in ("centre", "half", "low", "high")}
            return Bounds(squash, arrays["bounded"].astype(bool), **sides)
    return None


def _untiled(numbers: Array, outputs: int, inputs: int) -> Array:
    """Return the weights (outputs, inputs) of tiles; raises ValueError unless there are as many as they need."""
    if numbers.size != c_source.padded(outputs) * inputs:
        raise ValueError("there are too few or too many weights")
    tiles = numbers.reshape(-1, inputs, c_source.TILE)
    return tiles.transpose(0, 2, 1).reshape(-1, inputs)[:outputs]


def _unfilled(numbers: Array, count: int) -> Array:
    """Return the first `count` numbers; raises ValueError unless the others fill them up to whole tiles."""
    if numbers.size != c_source.padded(count):
        raise ValueError("there are too few or too many numbers")
    return numbers[:count]


def _float(defines: dict[str, str], key: str) -> float | None:
    return float(defines[key].rstrip("f")) if key in defines else None


def _numbers(body: str) -> Array:
    return np.array([text.rstrip("f") for text in body.replace(",", " ").split()], dtype=np.float32).astype(np.float64)
