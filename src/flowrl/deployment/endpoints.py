"""Where the points of a flow end, and how far a cheaper sampler or network ends from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.evaluation.latency import endpoint_error
from flowrl.flow import last_step

Integrate = Callable[[Tensor, Tensor], Tensor]
"""(observations (rows, observation) normalised, noise (rows, action)) -> actions (rows, action), before squashing."""

CHUNK = 512  # rows that are integrated at once
SHOWN, DRAWS = 64, 32  # observations, and draws of noise for each, over which the spread over the noise is taken


@dataclass(frozen=True)
class Examples:
    """Observations with noise, and the actions in which the target's flow ends."""

    obs: Tensor  # (rows, observation), normalised
    noise: Tensor  # (rows, action), N(0, 1)
    actions: Tensor  # (rows, action)

    @property
    def spread(self) -> float:
        """The standard deviation of the actions over the rows: the root of the mean of the dimensions' variances."""
        return float(self.actions.var(dim=0, correction=0).mean().sqrt())


def integrator(field: VelocityField, sampler: Sampler) -> Integrate:
    """Return what integrates the noise with `sampler` as a policy does, without gradients."""
    carrying = last_step.for_field(sampler, field)

    @torch.no_grad()
    def integrate(obs: Tensor, noise: Tensor) -> Tensor:
        pairs = zip(obs.split(CHUNK), noise.split(CHUNK), strict=True)
        return torch.cat([carrying(field.bind(rows), points, 0.0, 1.0) for rows, points in pairs])

    return integrate


def examples(obs: Tensor, action_size: int, target: Integrate, seed: int) -> Examples:
    """Draw noise for each of `obs` (rows, observation) and integrate it with `target`.

    Raises UsageError when the actions of the target are not finite, or all the same.
    """
    noise = torch.randn(len(obs), action_size, generator=torch.Generator().manual_seed(seed))
    found = Examples(obs, noise, target(obs, noise).to(noise.dtype))
    if not found.actions.isfinite().all() or found.spread == 0:
        what = "all the same" if found.actions.isfinite().all() else "not finite"
        raise UsageError(f"the actions of the policy are {what}: there is nothing to fit. Train it first.")
    return found


def error(found: Examples, integrate: Integrate) -> float:
    """Return the distance of the actions of `integrate` to those of the examples, relative to their spread
    (`flowrl.evaluation.latency.endpoint_error`)."""
    return endpoint_error(integrate(found.obs, found.noise), found.actions)


def spread_over_noise(obs: Tensor, action_size: int, integrate: Integrate, seed: int) -> float:
    """Return the standard deviation of the actions over the noise within an observation: the root of its mean square
    over observations and action dimensions. A policy that has lost one of two ways to act has less."""
    shown = obs[:SHOWN]
    noise = torch.randn(len(shown) * DRAWS, action_size, generator=torch.Generator().manual_seed(seed))
    actions = integrate(shown.repeat_interleave(DRAWS, dim=0), noise)
    return float(actions.view(len(shown), DRAWS, action_size).double().var(dim=1).mean().sqrt())
