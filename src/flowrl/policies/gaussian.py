"""The Gaussian policy: the baseline of PPO."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from flowrl.networks.gaussian import GaussianActor, GaussianSettings
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy


class GaussianPolicySettings(GaussianSettings):
    """The baseline policy: a Gaussian whose mean a network computes."""

    kind: Literal["gaussian"] = "gaussian"
    """flow generates actions from noise; gaussian is the baseline."""


class GaussianPolicy(Policy):
    """Acts with the mean plus the standard deviation times noise."""

    def __init__(self, actor: GaussianActor, normaliser: Normaliser, noise: Noise) -> None:
        self.actor = actor
        self.normaliser = normaliser
        self.noise = noise

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        """Return raw actions (batch, action) for the observations `obs` (batch, observation)."""
        mean, std = self.actor(self.normaliser(obs.to(self.normaliser.shift.device)))
        return (mean + std * self.noise(len(obs)).to(mean.device)).to(obs.device)

    def episodes_ended(self, rows: Tensor) -> None:
        """Let the noise depend on no earlier draw in the environments `rows` (envs,) bool."""
        self.noise.restart(rows)
