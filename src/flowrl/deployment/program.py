"""A policy as NumPy arrays: what every export is made of, and, evaluated in float64, the referee of every export.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layer = tuple[Array, Array]  # weights (outputs, inputs), bias (outputs,)
Points = TypeVar("Points", bound=Any)
Squash = Literal["clip", "tanh"]

SMALLEST_STD = 1e-3  # that of `flowrl.networks.gaussian`


@dataclass(frozen=True, eq=False)
class Bounds:
    """How a raw action becomes one of the environment: a becomes centre + half·squash(a), within [low, high].

    A dimension that is not `bounded` on both sides takes the raw action, clipped to the bound that it may have.
    """

    squash: Squash
    bounded: NDArray[np.bool_]  # (action,)
    centre: Array  # (action,)
    half: Array  # (action,)
    low: Array  # (action,)
    high: Array  # (action,)

    def __call__(self, action: Array) -> Array:
        """Map raw actions (rows, action) into the bounds."""
        squashed = np.tanh(action) if self.squash == "tanh" else np.clip(action, -1, 1)
        return np.clip(self.centre + self.half * np.where(self.bounded, squashed, action), self.low, self.high)


class Evaluated(Protocol):
    """An evaluation of a velocity, and the terms that lead to the next point."""

    @property
    def t(self) -> float: ...
    @property
    def weights(self) -> tuple[float, ...]: ...  # by age: of this velocity, the one before, ...
    @property
    def ends_step(self) -> bool: ...  # the next point is where the next step starts


class ProgramNode(NamedTuple):
    """An evaluation of the network, and the terms that lead to the next point.

    v = of_output · output + of_point · x;  x = start + Σ_age weights[age] · v[node - age]
    """

    t: float
    time_share: Array  # (first,): the share of the time in the first layer
    of_output: float
    of_point: float
    weights: tuple[float, ...]  # (memory,)
    ends_step: bool  # whether the next point is where the next step starts


@dataclass(frozen=True, eq=False)
class FlowPart:
    """What only a flow has: the share of the point in the first layer, and the nodes of the sampler's plan."""

    point_weights: Array  # (first, action)
    nodes: tuple[ProgramNode, ...]


class MixtureNode(NamedTuple):
    """An evaluation of the velocity to a mixture of Gaussians, and the terms that lead to the next point.

    v = Σ_k p_k (mean_k + slope_k (x - t mean_k)), p_k ∝ exp(logit_k + offset_k - ½ Σ_d precision_kd (x - t mean_k)_d²)
    (`flowrl.networks.mixture.mixture_velocity`); the steps are those of `ProgramNode`.
    """

    t: float
    precision: Array  # (component, action): 1 / (t² std² + (1 - t)²)
    slope: Array  # (component, action): (t std² - (1 - t)) precision
    offset: Array  # (component,): ½ Σ_d ln precision_d
    weights: tuple[float, ...]  # (memory,)
    ends_step: bool


@dataclass(frozen=True, eq=False)
class MixturePart:
    """What only a flow to a mixture of Gaussians has: the nodes of the sampler's plan.

    The network gives means (component, action), then logits (component,), once per action. The spreads do not depend on
    the observation.
    """

    nodes: tuple[MixtureNode, ...]

    @property
    def components(self) -> int:
        """Number of Gaussians."""
        return len(self.nodes[0].offset)


@dataclass(frozen=True, eq=False)
class Program:
    """A policy: normaliser, folded layers, the nodes of the sampler's plan, squash and bounds.

    Hidden entries of the observation have weights of 0, the network's `output_scale` is in the last layer, and the
    share of a time in the first layer is a constant of its node. The numbers are those of the float32 network, or
    computed from them in float64; an export rounds them to float32.

    Without a `flow` the policy is Gaussian, mean + std · noise: `std` (action,), or, where the network gives it, twice
    as many outputs, whose second half plus `spread` (action,) becomes it by softplus(·) + 1e-3.
    """

    shift: Array  # (observation,)
    scale: Array  # (observation,)
    limit: float | None  # of the normalised observation; None: not normalised
    observation_weights: Array  # (first, observation)
    bias: Array  # (first,)
    layers: tuple[Layer, ...]  # after the first
    activation: str
    flow: FlowPart | MixturePart | None
    std: Array | None = None  # (action,)
    spread: Array | None = None  # (action,)
    noise_scale: float = 1.0  # 0: no noise, 1: as trained
    action_limit: float | None = None
    bounds: Bounds | None = None  # None: raw actions

    @property
    def observation_size(self) -> int:
        """Length of one observation."""
        return len(self.shift)

    @property
    def action_size(self) -> int:
        """Length of one action."""
        outputs = len(self.layers[-1][1])
        if isinstance(self.flow, MixturePart):
            return outputs // self.flow.components - 1
        return outputs // 2 if self.spread is not None else outputs

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return (len(self.bias), *(len(bias) for _, bias in self.layers[:-1]))

    @property
    def nfe(self) -> int:
        """Evaluations of the network per action."""
        return len(self.flow.nodes) if isinstance(self.flow, FlowPart) else 1

    def evaluate(self, obs: NDArray[np.floating], noise: NDArray[np.floating], *, raw: bool = False) -> Array:
        """Compute the actions (rows, action) of the observations (rows, observation) and `noise` (rows, action) in
        float64; without squash and bounds where `raw`."""
        x = (obs.astype(np.float64) - self.shift) * self.scale
        if self.limit is not None:
            x = np.clip(x, -self.limit, self.limit)
        share = x @ self.observation_weights.T + self.bias
        scaled = self.noise_scale * noise.astype(np.float64)
        if self.flow is None:
            action = self._gaussian(share, scaled)
        elif isinstance(self.flow, MixturePart):
            action = carried(self.flow.nodes, self._mixture_velocity(self.flow, share), scaled)
        else:
            action = carried(self.flow.nodes, self._network_velocity(self.flow, share), scaled)
        if self.action_limit is not None:
            action = np.clip(action, -self.action_limit, self.action_limit)
        return action if raw or self.bounds is None else self.bounds(action)

    def _network_velocity(self, flow: FlowPart, share: Array) -> Callable[[ProgramNode, Array], Array]:
        """Return the velocity that the network computes, of a node and the points there."""

        def velocity(node: ProgramNode, x: Array) -> Array:
            output = self._after_first(x @ flow.point_weights.T + share + node.time_share)
            return node.of_output * output + node.of_point * x

        return velocity

    def _mixture_velocity(self, flow: MixturePart, share: Array) -> Callable[[MixtureNode, Array], Array]:
        """Return the velocity to the mixture that the network computes, of a node and the points there."""
        means, logits = np.split(self._after_first(share), [flow.components * self.action_size], axis=1)
        means = means.reshape(len(means), flow.components, self.action_size)

        def velocity(node: MixtureNode, x: Array) -> Array:
            away = x[:, None] - node.t * means
            shares = logits + node.offset - 0.5 * (node.precision * away**2).sum(axis=2)
            shares = np.exp(shares - shares.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            return np.asarray((shares[:, :, None] * (means + node.slope * away)).sum(axis=1))

        return velocity

    def _gaussian(self, share: Array, noise: Array) -> Array:
        output = self._after_first(share)
        mean = output[:, : self.action_size]
        if self.std is not None:
            return mean + self.std * noise
        spread = output[:, self.action_size :] + (0.0 if self.spread is None else self.spread)
        return mean + (np.logaddexp(0, spread) + SMALLEST_STD) * noise

    def _after_first(self, hidden: Array) -> Array:
        activate = ACTIVATIONS[self.activation]
        for weights, bias in self.layers:
            hidden = activate(hidden) @ weights.T + bias
        return hidden


def memory(nodes: Sequence[Evaluated]) -> int:
    """Count the last velocities that have to be kept."""
    return max(len(node.weights) for node in nodes)


def carried(nodes: Sequence[Evaluated], velocity: Callable[[Any, Points], Points], x: Points) -> Points:
    """Carry the points `x` (..., action), arrays or tensors, through all `nodes` by `velocity`, a function of a node
    and of points."""
    start = x
    velocities: list[Points] = []
    kept = memory(nodes)
    for node in nodes:
        velocities.insert(0, velocity(node, x))
        del velocities[kept:]
        x = start + sum(weight * v for weight, v in zip(node.weights, velocities, strict=False))
        start = x if node.ends_step else start
    return x


def _silu(s: Array) -> Array:
    with np.errstate(over="ignore"):
        return s / (1 + np.exp(-s))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": _silu,
    "relu": lambda s: np.maximum(s, 0),
    "elu": lambda s: np.where(s > 0, s, np.expm1(np.minimum(s, 0))),
    "tanh": np.tanh,
}
