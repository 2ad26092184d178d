"""Policies with random weights and statistics, for tests of what leaves the trainer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from flowrl.deployment.program import Bounds
from flowrl.envs.actions import ActionBounds
from flowrl.experiments.deployable import GivenNoise, as_numpy
from flowrl.networks.gaussian import GaussianActor
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.gaussian import GaussianPolicy, GaussianPolicySettings
from flowrl.samplers import registry

Numbers = NDArray[np.float32]


def normaliser(size: int, *, enabled: bool = True) -> Normaliser:
    """Statistics of 100 observations with means of about 1 and deviations of about 2."""
    made = Normaliser(size, enabled=enabled)
    made.update(1 + 2 * torch.randn(100, size))
    return made


def flow(
    observation: int = 5,
    action: int = 3,
    *,
    sampler: Any = ("euler", 4),
    masked: bool = False,
    normalise: bool = True,
    seed: int = 0,
    spreads: tuple[float, float] = (-1, 1),
    **settings: Any,
) -> FlowPolicy:
    """A flow policy; `sampler` is a name with steps, or a sampler. `spreads` are bounds of a base's parameter: std 0.31
    to 1.31, and 0.05 to 0.31 for -3 to -1."""
    torch.manual_seed(seed)
    chosen = FlowPolicySettings(**{"hidden": (16, 16), "output_scale": 1.0, **settings})
    visible = torch.arange(observation) % 3 != 0 if masked else None
    network = FlowNetwork(observation, action, chosen, visible).requires_grad_(False)
    for linear in network.layers.linears:
        torch.nn.init.uniform_(linear.bias, -0.2, 0.2)
    if network.base is not None:  # it begins near zero, with one spread
        last = network.base.layers.linears[-1]
        torch.nn.init.uniform_(last.weight, -(last.in_features**-0.5), last.in_features**-0.5)
        torch.nn.init.uniform_(network.base.spread, *spreads)
    made = registry.make(sampler[0], {"steps": sampler[1]}) if isinstance(sampler, tuple) else sampler
    noise: Any = GivenNoise()
    return FlowPolicy(network, normaliser(observation, enabled=normalise), noise, chosen, made, training=False)


def gaussian(observation: int = 5, action: int = 3, *, masked: bool = False, seed: int = 0, **settings: Any) -> Any:
    """A Gaussian policy."""
    torch.manual_seed(seed)
    chosen = GaussianPolicySettings(**{"hidden": (16, 16), **settings})
    visible = torch.arange(observation) % 3 != 0 if masked else None
    actor = GaussianActor(observation, action, chosen, visible).requires_grad_(False)
    last = actor.layers.linears[-1]
    torch.nn.init.uniform_(last.weight, -(last.in_features**-0.5), last.in_features**-0.5)  # it begins near zero
    noise: Any = GivenNoise()
    return GaussianPolicy(actor, normaliser(observation), noise)


def bound(action: int, squash: Any, *, sides: str = "bounded") -> ActionBounds:
    """Bounds of `action` dimensions: all of them bounded, none, or some on one side only (`mixed`)."""
    low, high = -np.arange(1, action + 1, dtype=np.float32), 2 * np.arange(1, action + 1, dtype=np.float32)
    if sides != "bounded":
        chosen = slice(None) if sides == "unbounded" else slice(0, None, 2)
        low[chosen] = -np.inf
        high[slice(None) if sides == "unbounded" else slice(0, None, 3)] = np.inf
    return ActionBounds(spaces.Box(low, high), squash)


def bounds(action: int, squash: Any, *, sides: str = "bounded") -> Bounds:
    """The same, as a program holds them."""
    return as_numpy(bound(action, squash, sides=sides))


def inputs(observation: int, action: int, rows: int = 200) -> tuple[Numbers, Numbers]:
    """Observations (rows, observation), some of them wild, and noise (rows, action)."""
    random = np.random.default_rng(1)
    obs = 1 + 2 * random.standard_normal((rows, observation))
    obs[::7] *= 20
    return obs.astype(np.float32), random.standard_normal((rows, action)).astype(np.float32)


def act(policy: Any, obs: Numbers, noise: Numbers, limits: ActionBounds | None = None) -> Numbers:
    """The actions of the policy in torch, with the given noise."""
    policy.noise.rows = torch.from_numpy(noise)
    action = policy(torch.from_numpy(obs))
    return (action if limits is None else limits(action)).numpy()
