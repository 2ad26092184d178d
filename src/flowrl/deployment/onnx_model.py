"""A policy as an ONNX file, built node by node: `obs` (batch, observation) -> `actions` (batch, action).

The names, the normaliser inside and the metadata are those that the loaders of rsl_rl, Isaac Lab and mjlab expect. The
sampler is unrolled: the weights are shared by all evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.contracts.errors import MissingDependency
from flowrl.contracts.installing import reinstall
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import SMALLEST_STD, Array, Bounds, FlowPart, MixturePart, Program, ProgramNode, memory

OPSET, IR_VERSION = 17, 8
FILE = "policy.onnx"
LARGEST = float(np.finfo(np.float32).max)
INSTALL = f"Type: {reinstall('export')}"


def needed() -> tuple[Any, Any]:
    """Return the packages onnx and onnxruntime; raises MissingDependency, with what to type, for a missing one."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(f"the package onnx, which writes ONNX files, is not installed. {INSTALL}") from error
    return onnx, runtime()


def runtime() -> Any:
    """Return the package onnxruntime; raises MissingDependency where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            f"the package onnxruntime, which runs ONNX files, is not installed. {INSTALL}"
        ) from error
    return onnxruntime


def build(program: Program, choice: NoiseChoice, fixed: NDArray[np.floating] | None = None) -> Any:
    """Return the ONNX model of `program`.

    It has a second input `noise` (batch, action) where that is given with every observation. `fixed` (action,) is the
    draw of fixed noise.
    """
    onnx, _ = needed()
    graph = GraphBuilder(onnx)
    noise = _noise(graph, program, choice, fixed)
    x = graph.add(
        "Mul", graph.add("Sub", "obs", graph.constant("shift", program.shift)), graph.constant("scale", program.scale)
    )
    if program.limit is not None:
        x = graph.clip(x, program.limit)
    share = graph.linear(x, "observation_weights", program.observation_weights, "first_bias", program.bias)
    if program.flow is None:
        carried = _gaussian(graph, program, share, noise)
    elif isinstance(program.flow, MixturePart):
        carried = _mixture(graph, program, program.flow, share, noise)
    else:
        carried = _flow(graph, program, program.flow, share, noise)
    if program.action_limit is not None:
        carried = graph.clip(carried, program.action_limit)
    if program.bounds is not None:
        carried = _bounded(graph, program.bounds, carried)
    graph.add("Identity", carried, output="actions")
    inputs = {"obs": program.observation_size} | ({"noise": program.action_size} if choice.mode == "input" else {})
    return graph.model(inputs, {"actions": program.action_size})


def annotated(model: Any, facts: Mapping[str, str]) -> bytes:
    """Put `facts` into the metadata of `model`, check it, and return the bytes of the file."""
    onnx, _ = needed()
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def session(model: bytes | str) -> Any:
    """Open the bytes, or the file of that name, in ONNX Runtime, on one thread."""
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class GraphBuilder:
    """The nodes and constants of a graph that is being built."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str, values: NDArray[Any] | float | list[float]) -> str:
        """Add the constant `name`, as float32 unless it is bool, and return its name."""
        array = np.asarray(values)
        if array.dtype != np.bool_:
            array = np.clip(array.astype(np.float64), -LARGEST, LARGEST).astype(np.float32)
        self._constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def whole(self, name: str, values: list[int]) -> str:
        """Add a constant of whole numbers, and return its name."""
        self._constants[name] = self._onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        return name

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"v{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def split(self, x: str, sizes: list[int]) -> tuple[str, str]:
        """Add a split of the rows' numbers into two parts of these `sizes`."""
        outputs = f"v{len(self._nodes)}_first", f"v{len(self._nodes)}_second"
        inputs = [x, self.whole(f"sizes_{len(self._nodes)}", sizes)]
        self._nodes.append(self._onnx.helper.make_node("Split", inputs, outputs, axis=1))
        return outputs

    def clip(self, x: str, limit: float) -> str:
        """Add a clip to +-limit."""
        low, high = self.constant(f"minus_{limit:g}", -limit), self.constant(f"plus_{limit:g}", limit)
        return self.add("Clip", x, low, high)

    def linear(self, x: str, weights_name: str, weights: Array, bias_name: str, bias: Array) -> str:
        """Add weights · x + bias."""
        return self.add("Gemm", x, self.constant(weights_name, weights), self.constant(bias_name, bias), transB=1)

    def activation(self, x: str, name: str) -> str:
        """Add the activation called `name`."""
        if name == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return self.add({"relu": "Relu", "elu": "Elu", "tanh": "Tanh"}[name], x)

    def model(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        """Return the model, whose inputs and outputs have these names and sizes, in batches of any size."""
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        sides = [
            [helper.make_tensor_value_info(name, kind, ["batch", size]) for name, size in side.items()]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "policy", *sides, list(self._constants.values()))
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="flowrl")


def _noise(graph: GraphBuilder, program: Program, choice: NoiseChoice, fixed: NDArray[np.floating] | None) -> str:
    """Add the scaled noise; where it is constant it has one row, which broadcasts."""
    size, scale = program.action_size, program.noise_scale
    if choice.mode == "zero":
        return graph.constant("zero_noise", np.zeros((1, size)))
    if choice.mode == "fixed" and fixed is not None:
        return graph.constant("fixed_noise", scale * np.asarray(fixed, dtype=np.float32).reshape(1, size))
    drawn = "noise"
    if choice.mode == "seeded":  # its shape is that of a product with zeros
        like = graph.add("MatMul", "obs", graph.constant("no_weights", np.zeros((program.observation_size, size))))
        drawn = graph.add("RandomNormalLike", like, seed=float(choice.seed))
    return drawn if scale == 1 else graph.add("Mul", drawn, graph.constant("noise_scale", scale))


def _flow(graph: GraphBuilder, program: Program, flow: FlowPart, share: str, x: str) -> str:
    """Carry the points `x` through all nodes of the plan."""
    weights = graph.constant("point_weights", flow.point_weights)
    keeps_one = memory(flow.nodes) == 1
    start = x
    velocities: list[str] = []
    for number, node in enumerate(flow.nodes):
        time_share = graph.constant(f"time_share_{number}", node.time_share)
        hidden = graph.add("Add", graph.add("Gemm", x, weights, time_share, transB=1), share)
        if keeps_one and x == start:
            x = _whole_step(graph, program, node, number, hidden, x)
            start = x if node.ends_step else start
            continue
        v = _after_first(graph, program, hidden)
        if node.of_output != 1:
            v = graph.add("Mul", v, graph.constant(f"of_output_{number}", node.of_output))
        if node.of_point:
            v = graph.add("Add", v, graph.add("Mul", x, graph.constant(f"of_point_{number}", node.of_point)))
        velocities.insert(0, v)
        x = _next_point(graph, start, node.weights, velocities, number)
        start = x if node.ends_step else start
    return x


def _next_point(
    graph: GraphBuilder, start: str, weights: Sequence[float], velocities: Sequence[str], number: int
) -> str:
    """Add the terms of node `number` to the point `start`; the latest velocity is the first."""
    x = start
    for age, (weight, past) in enumerate(zip(weights, velocities, strict=False)):
        if weight:
            x = graph.add("Add", x, graph.add("Mul", past, graph.constant(f"weight_{number}_{age}", weight)))
    return x


def _mixture(graph: GraphBuilder, program: Program, flow: MixturePart, share: str, x: str) -> str:
    """Carry the points `x` through all nodes by the velocity to the mixture of Gaussians that the network gives."""
    components, size = flow.components, program.action_size
    means, logits = graph.split(_after_first(graph, program, share), [components * size, components])
    means = graph.add("Reshape", means, graph.whole("by_component", [-1, components, size]))
    of_component, of_action = graph.whole("axis_of_component", [1]), graph.whole("axis_of_action", [2])
    start = x
    velocities: list[str] = []
    for number, node in enumerate(flow.nodes):
        centre = graph.add("Mul", means, graph.constant(f"time_{number}", node.t))
        away = graph.add("Sub", graph.add("Unsqueeze", x, of_component), centre)
        precision = graph.constant(f"half_precision_{number}", 0.5 * node.precision)
        squares = graph.add("Mul", graph.add("Mul", away, away), precision)
        distance = graph.add("ReduceSum", squares, of_action, keepdims=0)
        prior = graph.add("Add", logits, graph.constant(f"offset_{number}", node.offset))
        shares = graph.add("Softmax", graph.add("Sub", prior, distance), axis=1)
        of_each = graph.add("Add", means, graph.add("Mul", away, graph.constant(f"slope_{number}", node.slope)))
        weighted = graph.add("Mul", of_each, graph.add("Unsqueeze", shares, of_action))
        velocities.insert(0, graph.add("ReduceSum", weighted, of_component, keepdims=0))
        x = _next_point(graph, start, node.weights, velocities, number)
        start = x if node.ends_step else start
    return x


def _whole_step(graph: GraphBuilder, program: Program, node: ProgramNode, number: int, hidden: str, x: str) -> str:
    """Take a step from the point `x`, by this evaluation alone, within the last layer's product: fewer nodes.

    x + w (of_output · output + of_point · x) = w of_output · W h + ((1 + w of_point) · x + w of_output · b)
    """
    (weight,) = node.weights
    weights, bias = program.layers[-1]
    scale, kept = weight * node.of_output, 1 + weight * node.of_point
    point = x if kept == 1 else graph.add("Mul", x, graph.constant(f"kept_{number}", kept))
    point = graph.add("Add", point, graph.constant(f"last_bias_{number}", scale * bias))
    last = graph.constant("last_weights", weights)
    return graph.add("Gemm", _before_last(graph, program, hidden), last, point, transB=1, alpha=scale)


def _gaussian(graph: GraphBuilder, program: Program, share: str, noise: str) -> str:
    """Add mean + std · noise."""
    output = _after_first(graph, program, share)
    size = program.action_size
    if program.std is not None:
        return graph.add("Add", output, graph.add("Mul", noise, graph.constant("std", program.std)))
    mean, head = graph.split(output, [size, size])
    spread = program.spread if program.spread is not None else np.zeros(size)
    std = graph.add("Softplus", graph.add("Add", head, graph.constant("spread", spread)))
    std = graph.add("Add", std, graph.constant("smallest_std", SMALLEST_STD))
    return graph.add("Add", mean, graph.add("Mul", noise, std))


def _after_first(graph: GraphBuilder, program: Program, hidden: str) -> str:
    weights, bias = program.layers[-1]
    return graph.linear(_before_last(graph, program, hidden), "last_weights", weights, "last_bias", bias)


def _before_last(graph: GraphBuilder, program: Program, hidden: str) -> str:
    """Return what the last layer multiplies, from the first layer's output before its activation."""
    for number, (weights, bias) in enumerate(program.layers[:-1]):
        hidden = graph.activation(hidden, program.activation)
        hidden = graph.linear(hidden, f"weights_{number}", weights, f"bias_{number}", bias)
    return graph.activation(hidden, program.activation)


def _bounded(graph: GraphBuilder, bounds: Bounds, raw: str) -> str:
    """Add squash, scale and bounds."""
    action = graph.add("Tanh", raw) if bounds.squash == "tanh" else graph.clip(raw, 1.0)
    if not bounds.bounded.all():
        action = graph.add("Where", graph.constant("bounded", bounds.bounded), action, raw)
    action = graph.add("Mul", action, graph.constant("half", bounds.half))
    action = graph.add("Add", action, graph.constant("centre", bounds.centre))
    action = graph.add("Max", action, graph.constant("low", bounds.low))
    return graph.add("Min", action, graph.constant("high", bounds.high))
