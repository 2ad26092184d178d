"""From a policy in torch to its `Program`: the normaliser, the network with all constants folded, and the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.deployment import plans
from flowrl.deployment.plans import PlanNode
from flowrl.deployment.program import (
    Array,
    Bounds,
    FlowPart,
    Layer,
    MixtureNode,
    MixturePart,
    Program,
    ProgramNode,
    carried,
    memory,
)
from flowrl.networks.gaussian import GaussianActor, gaussian_velocity
from flowrl.networks.mask import ObservationMask
from flowrl.networks.mixture import MixtureActor
from flowrl.networks.mlp import ACTIVATIONS, MLP
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork, to_velocity
from flowrl.policies.flow import FlowPolicy
from flowrl.policies.gaussian import GaussianPolicy
from flowrl.policies.policy import Policy


def fold(policy: Policy, bounds: Bounds | None = None, noise_scale: float = 1.0) -> Program:
    """Return the program of `policy`, whose actions are raw without `bounds`.

    Raises UsageError for a sampler without fixed steps and for a policy of a user's own kind.
    """
    for kind, folded in KINDS:
        if isinstance(policy, kind):
            _refuse_form(policy)
            return folded(policy, bounds, noise_scale)
    raise UsageError(
        f"a {type(policy).__name__} cannot be exported: only policies of fpo, fpo++ and ppo can, whose networks are "
        "known."
    )


def _refuse_form(policy: Policy) -> None:
    """Raise UsageError for networks of a form that an export does not have."""
    network: Any = policy.actor if isinstance(policy, GaussianPolicy) else policy.field
    if not getattr(getattr(network, "layers", None), "foldable", True):
        raise UsageError(
            "a network with residual connections (policy.residual) cannot be exported yet, nor run by the backends c "
            "and onnx: flowrl.load runs it with backend='torch'. Train one with residual: false for an export."
        )


def fold_flow(policy: FlowPolicy, bounds: Bounds | None, noise_scale: float) -> Program:
    """Return the program of a flow policy."""
    network = policy.field
    if not isinstance(network, FlowNetwork):
        raise UsageError(
            f"a flow whose field is a {type(network).__name__} cannot be exported: its network is unknown."
        )
    if network.base is not None:
        if not network.is_base_alone:
            raise UsageError(
                f"a flow with policy.base: {network.settings.base} and output_scale: "
                f"{network.settings.output_scale:g} cannot be exported yet, nor run by the backends c and onnx: "
                "flowrl.load runs it with backend='torch'. Train one with base: none, or with output_scale: 0, for an "
                "export."
            )
        if isinstance(network.base, MixtureActor):
            return _fold_mixture(policy, network.base, bounds, noise_scale)
        return _fold_normal(policy, network.base, bounds, noise_scale)
    of_obs, of_x, _, bias = (view.detach() for view in network.first_layer())
    layers = _layers(network.layers)
    scale = network.settings.output_scale
    *hidden, (weights, last_bias) = layers
    return Program(
        **_normaliser(policy.normaliser),
        observation_weights=_masked(of_obs, network.mask),
        bias=_array(bias),
        layers=(*hidden, (weights * scale, last_bias * scale)),
        activation=network.settings.activation,
        flow=FlowPart(_array(of_x), tuple(_node(network, node) for node in _plan(policy))),
        noise_scale=noise_scale,
        action_limit=policy.action_limit,
        bounds=bounds,
    )


def _fold_normal(policy: FlowPolicy, base: GaussianActor, bounds: Bounds | None, noise_scale: float) -> Program:
    """Return the program of a flow to a Gaussian, with `output_scale` 0.

    The velocity is linear in the mean and the point, and so is the end of the sampler's steps,
    of_mean · mean + of_noise · noise: a Gaussian policy of one evaluation.
    """
    nodes = _plan(policy)
    zero, one = torch.zeros(base.action_size, dtype=torch.float64), torch.ones(base.action_size, dtype=torch.float64)
    std = _std(base).double().cpu()

    def end(noise: Tensor, mean: Tensor) -> Tensor:
        return carried(nodes, lambda node, x: gaussian_velocity(x, node.t, mean, std), noise)

    of_mean, of_noise = end(zero, one), end(one, zero)
    *hidden, (weights, bias) = _layers(base.layers)
    scale = _array(of_mean)
    return Program(
        **_before_layers(policy.normaliser, base),
        layers=(*hidden, (weights * scale[:, None], bias * scale)),
        flow=None,
        std=_array(of_noise),
        noise_scale=noise_scale,
        action_limit=policy.action_limit,
        bounds=bounds,
    )


def _fold_mixture(policy: FlowPolicy, base: MixtureActor, bounds: Bounds | None, noise_scale: float) -> Program:
    """Return the program of a flow to a mixture of Gaussians, with `output_scale` 0.

    The network is evaluated once; at each node the velocity is computed from what it gave.
    """
    *hidden, (weights, bias) = _layers(base.layers)
    centres = _array(base.centres).reshape(-1)
    std = _array(base.std(torch.float64))
    return Program(
        **_before_layers(policy.normaliser, base),
        layers=(*hidden, (weights, bias + np.pad(centres, (0, len(bias) - len(centres))))),
        flow=MixturePart(tuple(_mixture_node(std, node) for node in _plan(policy))),
        noise_scale=noise_scale,
        action_limit=policy.action_limit,
        bounds=bounds,
    )


def fold_gaussian(policy: GaussianPolicy, bounds: Bounds | None, noise_scale: float) -> Program:
    """Return the program of a Gaussian policy."""
    actor = policy.actor
    return Program(
        **_before_layers(policy.normaliser, actor),
        layers=_layers(actor.layers),
        flow=None,
        std=None if actor.state_dependent else _array(_std(actor)),
        spread=_array(actor.spread) if actor.state_dependent else None,
        noise_scale=noise_scale,
        bounds=bounds,
    )


KINDS: tuple[tuple[type, Callable[[Any, Bounds | None, float], Program]], ...] = (
    (FlowPolicy, fold_flow),
    (GaussianPolicy, fold_gaussian),
)


def _plan(policy: FlowPolicy) -> list[PlanNode]:
    """Return the nodes of the policy's sampler, all with as many weights."""
    nodes = plans.read(policy.sampler, policy.field, policy.sampler_name)
    kept = memory(nodes)
    return [node._replace(weights=node.weights + (0.0,) * (kept - len(node.weights))) for node in nodes]


def _node(network: FlowNetwork, node: PlanNode) -> ProgramNode:
    """Return the node with the constants of its time: the velocity is linear in the output and in the point."""
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    kind = network.settings.parameterisation
    weight = network.first_layer()[2].detach().double()
    features = network.time_features(torch.full((1,), node.t, dtype=torch.float64, device=weight.device))
    return ProgramNode(
        node.t,
        _array(weight @ features),
        float(to_velocity(one, zero, node.t, kind)),
        float(to_velocity(zero, one, node.t, kind)),
        node.weights,
        node.ends_step,
    )


def _mixture_node(std: Array, node: PlanNode) -> MixtureNode:
    """Return the node with the constants of its time, for components with the spreads `std` (component, action)."""
    precision = 1 / ((node.t * std) ** 2 + (1 - node.t) ** 2)
    return MixtureNode(
        t=node.t,
        precision=precision,
        slope=(node.t * std**2 - (1 - node.t)) * precision,
        offset=0.5 * np.log(precision).sum(axis=1),
        weights=node.weights,
        ends_step=node.ends_step,
    )


def _std(actor: GaussianActor) -> Tensor:
    """Return the standard deviation (action,) of an actor whose spread does not depend on the observation."""
    first = actor.layers.linears[0]
    _, std = actor(torch.zeros(1, first.in_features, device=first.weight.device))
    return std[0]


def _before_layers(normaliser: Normaliser, actor: GaussianActor | MixtureActor) -> dict[str, Any]:
    """Return what a program has of a network that sees the observation alone, but for the layers after the first."""
    first = actor.layers.linears[0]
    return _normaliser(normaliser) | {
        "observation_weights": _masked(first.weight.detach(), actor.mask),
        "bias": _array(first.bias),
        "activation": _activation(actor.layers),
    }


def _normaliser(normaliser: Normaliser) -> dict[str, Any]:
    """Return the numbers by which float32 observations are normalised."""
    size = len(normaliser.shift)
    if not normaliser.enabled:
        return {"shift": np.zeros(size), "scale": np.ones(size), "limit": None}
    return {"shift": _array(normaliser.shift), "scale": _array(normaliser.scale), "limit": normaliser.limit}


def _masked(weights: Tensor, mask: ObservationMask) -> Array:
    return _array(weights if mask.visible is None else weights * mask.visible)


def _layers(layers: MLP) -> tuple[Layer, ...]:
    """Return the layers after the first."""
    return tuple((_array(linear.weight), _array(linear.bias)) for linear in layers.linears[1:])


def _activation(layers: MLP) -> str:
    return next(name for name, functions in ACTIVATIONS.items() if functions[0] is layers._activation)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float64)
