"""A policy as one C99 file: a constant body, which is checked in as C, and the numbers of a `Program`.

The weights are tiles [outputs / 32][inputs][32], with the outputs filled up with zeros to a multiple of 32.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Array, FlowPart, MixturePart, Program, memory

TILE = 32
PREFIX = "flowrl"
SOURCE, HEADER, TEST, MAKEFILE = "policy.c", "policy.h", "test_policy.c", "Makefile"
NUMBERS_PER_LINE = 12
NUMBERS = "/* @numbers@ */"  # their place in the constant body
LARGEST = float(np.finfo(np.float32).max)


def template(name: str) -> str:
    """Return the constant part of the file `name`."""
    return (resources.files("flowrl.deployment") / "c_files" / name).read_text()


def check_prefix(name: str) -> None:
    """Raise UsageError unless `name` can begin the names of C functions."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        raise UsageError(f"--name {name}: expected a C name in lower case, such as trot. Its function is trot_act.")


def header(program: Program, noise: NoiseChoice, name: str = PREFIX) -> str:
    """Return policy.h."""
    sizes = [
        f"#define FLOWRL_OBS {program.observation_size}",
        f"#define FLOWRL_ACT {program.action_size}",
        f"#define FLOWRL_NFE {program.nfe} /* evaluations of the network per action */",
        f"#define FLOWRL_SEED {noise.seed}u",
        f'#define FLOWRL_NOISE_DEFAULT "{"one draw" if noise.mode == "fixed" else "zeros"}"',
    ]
    return renamed(template(HEADER).replace("/* @sizes@ */", "\n".join(sizes)), name)


def source(
    program: Program, noise: NoiseChoice, fixed: Array | None = None, name: str = PREFIX, title: str = ""
) -> str:
    """Return policy.c. `fixed` (action,) is the draw of fixed noise; `title` says what the policy is."""
    title = re.sub(r"[^A-Za-z0-9 .,:;()+_@=\-]", " ", title).strip()[:400] or "A policy"
    numbers = "\n".join(_numbers(program, noise, fixed))
    return f"/* {title} */\n" + renamed(template(SOURCE).replace(NUMBERS, numbers), name)


def test_source(
    obs: NDArray[np.float32], noise: NDArray[np.float32], actions: Array, tolerance: float, name: str
) -> str:
    """Return test_policy.c with vectors: observations (rows, observation), noise and actions (rows, action)."""
    lines = [
        f"#define ROWS {len(obs)}",
        "#ifndef TOLERANCE",
        f"#define TOLERANCE {tolerance:.6g}",
        "#endif",
        *array("observations", obs),
        *array("noises", noise),
        *array("actions", actions),
    ]
    return renamed(template(TEST).replace("/* @vectors@ */", "\n".join(lines)), name)


def renamed(text: str, name: str) -> str:
    """Put the prefix `name` in the place of flowrl's in the names of functions and constants."""
    text = re.sub(r"\bflowrl_(?=\w)", f"{name}_", text)
    return re.sub(r"\bFLOWRL_(?=\w)", f"{name.upper()}_", text)


def sizes(text: str) -> tuple[int, int]:
    """Return the sizes of observation and action in policy.c `text`; zeros where they are not in it."""
    found = [re.search(rf"^#define {name} (\d{{1,9}})$", text, re.MULTILINE) for name in ("OBS", "ACT")]
    observation, action = (int(match[1]) if match else 0 for match in found)
    return observation, action


def constant_bytes(text: str) -> int:
    """Return the size of the constants in policy.c `text`."""
    sizes = {"float": 4, "unsigned char": 1}
    found = re.findall(r"^static const (float|unsigned char) \w+\[(\d+)\]", text, re.MULTILINE)
    return sum(sizes[kind] * int(count) for kind, count in found)


# --------------------------------------------------------------------------------------------------- numbers


def _numbers(program: Program, noise: NoiseChoice, fixed: Array | None) -> Iterator[str]:
    """Yield the defines and arrays of the policy."""
    outputs = len(program.layers[-1][1])
    widths = program.hidden
    yield f"#define OBS {program.observation_size}"
    yield f"#define ACT {program.action_size}"
    yield f"#define OUTPUTS_PADDED {padded(outputs)}"
    yield f"#define FIRST {padded(widths[0])}"
    yield f"#define WIDEST {max(map(padded, widths))}"
    yield f"#define ACTIVATION {program.activation.upper()}"
    yield f"#define NOISE_SCALE {_number(program.noise_scale)}"
    if program.limit is not None:
        yield f"#define INPUT_LIMIT {_number(program.limit)}"
    if program.action_limit is not None:
        yield f"#define ACTION_LIMIT {_number(program.action_limit)}"
    if noise.mode == "fixed" and fixed is not None:
        yield "#define DEFAULT_NOISE(k) fixed_noise[k]"
        yield from array("fixed_noise", fixed)
    else:
        yield "#define DEFAULT_NOISE(k) 0.0f"
    yield from array("shift", program.shift)
    yield from array("scale", program.scale)
    yield from array("observation_weights", tiles(program.observation_weights))
    yield from array("first_bias", _filled(program.bias))
    yield from _layers(program)
    if program.flow is None:
        yield from _gaussian(program)
    else:
        yield from _plan(program.flow)
    if program.bounds is not None:
        yield f"#define SQUASH_{program.bounds.squash.upper()}"
        yield from array("bounded", program.bounds.bounded)
        for field in ("centre", "half", "low", "high"):
            yield from array(field, getattr(program.bounds, field))


def _layers(program: Program) -> Iterator[str]:
    """Yield the arrays of the layers after the first, and the macro that runs the hidden ones, from a to b and back."""
    *hidden, (last, last_bias) = program.layers
    calls = []
    for number, (inputs, outputs) in enumerate(pairwise(program.hidden)):
        weights, bias = hidden[number]
        yield from array(f"w_{number}", tiles(weights))
        yield from array(f"b_{number}", _filled(bias))
        there, back = ("a", "b") if number % 2 == 0 else ("b", "a")
        calls.append(f"L(w_{number}, b_{number}, {there}, {back}, {inputs}, {padded(outputs)})")
    yield f"#define HIDDEN_LAYERS(L) {' '.join(calls)}"
    yield f"#define LAST_INPUT {'b' if len(hidden) % 2 else 'a'}"
    yield f"#define LAST_INPUTS {program.hidden[-1]}"
    yield from array("last_weights", tiles(last))
    yield from array("last_bias", _filled(last_bias))


def _plan(flow: FlowPart | MixturePart) -> Iterator[str]:
    nodes = flow.nodes
    yield f"#define NODES {len(nodes)}"
    yield f"#define MEMORY {memory(nodes)}"
    yield from _mixture(flow) if isinstance(flow, MixturePart) else _flow(flow)
    yield from array("step_weights", np.array([node.weights for node in nodes]))
    yield from array("ends_step", np.array([node.ends_step for node in nodes]))


def _flow(flow: FlowPart) -> Iterator[str]:
    nodes = flow.nodes
    yield from array("point_weights", tiles(flow.point_weights))
    yield from array("time_shares", np.stack([_filled(node.time_share) for node in nodes]))
    if any((node.of_output, node.of_point) != (1.0, 0.0) for node in nodes):
        yield "#define CONVERTS 1"
        yield from array("of_output", np.array([node.of_output for node in nodes]))
        yield from array("of_point", np.array([node.of_point for node in nodes]))


def _mixture(flow: MixturePart) -> Iterator[str]:
    yield f"#define COMPONENTS {flow.components}"
    yield from array("times", np.array([node.t for node in flow.nodes]))
    for field in ("precision", "slope", "offset"):
        yield from array(field, np.stack([getattr(node, field) for node in flow.nodes]))


def _gaussian(program: Program) -> Iterator[str]:
    yield "#define NODES 0"
    if program.spread is not None:
        yield "#define STATE_DEPENDENT 1"
        yield from array("spread", program.spread)
    elif program.std is not None:
        yield from array("deviation", program.std)


def tiles(weights: Array) -> Array:
    """Lay out weights (outputs, inputs) as tiles (outputs / 32, inputs, 32), with zeros for missing outputs."""
    outputs, inputs = weights.shape
    filled = np.zeros((padded(outputs), inputs))
    filled[:outputs] = weights
    return filled.reshape(-1, TILE, inputs).transpose(0, 2, 1)


def _filled(vector: Array) -> Array:
    return np.concatenate([vector, np.zeros(padded(len(vector)) - len(vector))])


def padded(count: int) -> int:
    """Round `count` up to whole tiles."""
    return -(-count // TILE) * TILE


def array(name: str, values: NDArray[np.generic]) -> Iterator[str]:
    """Yield a constant array: the shortest decimals that give each float32 back, or 0 and 1."""
    flags = values.dtype == np.bool_
    texts = [str(int(flag)) for flag in values.flat] if flags else _decimals(values)
    yield f"static const {'unsigned char' if flags else 'float'} {name}[{len(texts)}] = {{"
    for start in range(0, len(texts), NUMBERS_PER_LINE):
        yield ", ".join(texts[start : start + NUMBERS_PER_LINE]) + ","
    yield "};"


def _decimals(values: NDArray[np.generic]) -> list[str]:
    rounded = np.clip(values.astype(np.float64), -LARGEST, LARGEST).astype(np.float32).reshape(-1)
    return [f"{text}f" for text in rounded.astype(str).tolist()]


def _number(value: float) -> str:
    return _decimals(np.array([value]))[0]
