"""A third kind of policy, planted by test_policy_kinds.py: a Gaussian whose mean is linear in the observation."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from flowrl.config.policy_kinds import PolicyKind
from flowrl.contracts.settings import Settings
from flowrl.networks.mask import ObservationMask
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.training.ratio import LikelihoodRatio


class LinearPolicySettings(Settings):
    """A policy without hidden layers."""

    kind: Literal["linear"] = "linear"
    std: float = Field(0.5, gt=0)
    """Standard deviation, the same for every action."""


class LinearActor(nn.Module):
    def __init__(self, inputs: int, outputs: int, settings: LinearPolicySettings, visible: Tensor | None):
        super().__init__()
        self.mask = ObservationMask(visible)
        self.mean = nn.Linear(inputs, outputs)
        self.std = settings.std

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(self.mask(obs))
        return mean, torch.full_like(mean, self.std)


class LinearPolicy(Policy):
    def __init__(self, actor: LinearActor, normaliser: Normaliser, noise: Noise) -> None:
        self.actor = actor
        self.normaliser = normaliser
        self.noise = noise

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        mean, std = self.actor(self.normaliser(obs))
        result: Tensor = mean + std * self.noise(len(obs))
        return result


LINEAR = PolicyKind(
    settings=LinearPolicySettings,
    network=LinearActor,
    ratio_estimator=lambda actor, *_: LikelihoodRatio(actor),
    refuse=lambda *_: None,
    policy=lambda actor, normaliser, noise, *_: LinearPolicy(actor, normaliser, noise),
    network_keys=(),
    ratios=("likelihood",),
    uses_sampler=False,
    has_entropy=True,
)
