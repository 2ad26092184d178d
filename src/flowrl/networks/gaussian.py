"""The Gaussian actor, which PPO needs for its likelihood."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from flowrl.contracts.protocols import Velocity
from flowrl.contracts.settings import Settings
from flowrl.networks.mask import ObservationMask
from flowrl.networks.mlp import RESIDUAL, Activation, Widths, check_residual, kind_of_mlp, orthogonal

LARGEST_EXPONENT = 50.0  # exp(-50) is below the resolution of float64
SMALLEST_STD = 1e-3


class GaussianSettings(Settings):
    """Size and spread of a Gaussian actor."""

    hidden: Widths = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """Between layers."""
    residual: bool = RESIDUAL
    std: Literal["state_independent", "state_dependent", "fixed"] = "state_independent"
    """Whether the spread is a free number per action dimension, an output of the network, or stays `initial_std`."""
    initial_std: float = Field(1.0, gt=SMALLEST_STD, le=1000)
    """Spread before training: how wide the first actions are."""
    smallest_std: float = Field(SMALLEST_STD, ge=SMALLEST_STD, le=1000)
    """Spread that training cannot go below, of std state_independent: below it the policy would no longer explore."""

    @model_validator(mode="after")
    def _check_widths(self) -> GaussianSettings:
        check_residual(self.hidden, self.residual)
        if self.smallest_std != SMALLEST_STD and self.std != "state_independent":
            raise ValueError(
                f"smallest_std is of std: state_independent, and std is {self.std}: set it to that, or leave "
                "smallest_std out"
            )
        if self.smallest_std >= self.initial_std:
            raise ValueError(
                f"initial_std {self.initial_std:g} has to be above smallest_std {self.smallest_std:g}: set one of them"
            )
        return self


def to_spread(std: float, smallest: float = SMALLEST_STD) -> float:
    """Return the parameter from which `to_std` makes `std`: the inverse of softplus, which for large numbers is the
    number itself."""
    wanted = std - smallest
    return math.log(math.expm1(wanted)) if wanted < LARGEST_EXPONENT else wanted


def to_std(spread: Tensor, smallest: float = SMALLEST_STD) -> Tensor:
    """Compute standard deviations above `smallest` from unbounded parameters, of any shape."""
    return functional.softplus(spread) + smallest


def gaussian_velocity(x: Tensor, t: float | Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compute the velocity that carries N(0, I) on straight paths to N(mean, std²), at the points `x` and times `t`.

    v = mean + c (x - t mean) with c = (std² t - (1 - t)) / (std² t² + (1 - t)²): the mean of action - noise, given
    x = (1 - t) noise + t action, which are jointly Gaussian (the conditional mean of flow matching, Lipman et al. 2023,
    arXiv 2210.02747, theorem 1). The shapes of (..., action) and (..., 1) broadcast.
    """
    variance = std.square()
    slope = (variance * t - (1 - t)) / (variance * t * t + (1 - t) * (1 - t))
    return mean + slope * (x - t * mean)


class GaussianActor(nn.Module):
    """Computes N(mean(obs), std²) with independent action dimensions, before the environment squashes the action: the
    Jacobian of squashing cancels in every ratio."""

    def __init__(
        self, observation_size: int, action_size: int, settings: GaussianSettings, visible: Tensor | None = None
    ) -> None:
        super().__init__()
        self.mask = ObservationMask(visible)
        self.action_size = action_size
        self.state_dependent = settings.std == "state_dependent"
        outputs = 2 * action_size if self.state_dependent else action_size
        widths = [observation_size, *settings.hidden, outputs]
        self.layers = kind_of_mlp(settings.residual)(widths, settings.activation, orthogonal(), orthogonal(gain=0.01))
        self.smallest_std = settings.smallest_std
        spread = to_spread(settings.initial_std, self.smallest_std)
        self.spread = nn.Parameter(torch.full((action_size,), spread), requires_grad=settings.std != "fixed")

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and standard deviation, each (..., action), at the observations (..., observation)."""
        output = self.layers(self.mask(obs))
        mean = output[..., : self.action_size]
        spread = self.spread + output[..., self.action_size :] if self.state_dependent else self.spread
        return mean, to_std(spread, self.smallest_std).expand_as(mean)

    def inverse_std(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Compute 1 / std (batch, action) at the observations (batch, observation), the same for all `actions`."""
        return self(obs)[1].reciprocal()

    def bind(self, obs: Tensor) -> Velocity:
        """Return the velocity of the flow to the Gaussians at `obs` (..., observation)."""
        mean, std = self(obs)
        return partial(gaussian_velocity, mean=mean, std=std)


def log_probability(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compute log N(action; mean, std²) = -Σ_d [ (a - μ)² / 2σ² + ln σ + ln(2π) / 2 ]; (..., action) → (...,)."""
    z = (action - mean) / std
    return -(0.5 * z.square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def entropy(std: Tensor) -> Tensor:
    """Compute the entropy Σ_d [ ln σ + ln(2πe) / 2 ] in nats, before any squashing; (..., action) → (...,)."""
    return (std.log() + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)
