"""What the ratio is made from: CFM losses at fixed probes, or log-probabilities.

An evidence is recorded once per update, with the weights that acted, and compared in every minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from flowrl.flow.matching import LossSettings, Probes, ProbeSettings, cfm_loss, draw_probes
from flowrl.flow.network import FlowNetwork
from flowrl.training import gaussian, ratio
from flowrl.training.gaussian import GaussianActor

Record = dict[str, Tensor]  # each (batch, …): sliced by minibatch rows


@dataclass(frozen=True)
class Comparison:
    """The new policy beside the old one on a minibatch."""

    log_ratio: Tensor  # (batch, n), n = probes or 1
    entropy: Tensor | None  # (batch,) nats, None where the policy has no closed form
    metrics: dict[str, Tensor]  # scalars without gradient


class Evidence(Protocol):
    """How a learner compares its actor with the actor that acted."""

    @property
    def actor(self) -> nn.Module:
        """The network whose weights are learned."""
        ...

    def record(
        self, obs: Tensor, actions: Tensor, chunks: list[Tensor], generator: torch.Generator
    ) -> Record:
        """What must be known of the old policy, for obs (batch, observation), actions (batch, action).

        `chunks` are the rows of the first epoch's minibatches: computed in the same pieces, the new value
        of the first minibatch equals the old one to the last bit, and the first ratio is exactly 1.
        """
        ...

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> Comparison:
        """The new policy against the record; `advantage` is (batch,)."""
        ...


class FlowEvidence:
    """CFM losses of a velocity network at probes that stay the same for a whole update."""

    def __init__(
        self,
        actor: FlowNetwork,
        probes: ProbeSettings,
        loss: LossSettings,
        log_ratio: Callable[[Tensor, Tensor], Tensor],
        loss_limit: float | None = None,
        loss_limit_negative: float | None = None,
    ) -> None:
        self.actor = actor
        self._probes = probes
        self._loss = loss
        self._log_ratio = log_ratio
        self._limit = loss_limit
        self._limit_negative = loss_limit_negative

    def record(
        self, obs: Tensor, actions: Tensor, chunks: list[Tensor], generator: torch.Generator
    ) -> Record:
        probes = draw_probes(len(obs), actions.shape[-1], self._probes, generator).to(obs.device)
        loss = obs.new_empty(probes.times.shape[:2])
        with torch.no_grad():
            for rows in chunks:
                loss[rows] = cfm_loss(self.actor, obs[rows], actions[rows], probes[rows], self._loss)
        return {"times": probes.times, "noise": probes.noise, "loss": loss}

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> Comparison:
        new = cfm_loss(self.actor, obs, actions, Probes(record["times"], record["noise"]), self._loss)
        old = record["loss"]
        mean_loss = new.detach().mean()
        if self._limit is not None:
            old, new = _limited(old, self._limit), _limited(new, self._limit)
        if self._limit_negative is not None:
            new = torch.where(advantage.unsqueeze(-1) < 0, _limited(new, self._limit_negative), new)
        return Comparison(self._log_ratio(old, new), None, {"cfm_loss": mean_loss})


class GaussianEvidence:
    """Log-probabilities of a Gaussian actor."""

    def __init__(self, actor: GaussianActor) -> None:
        self.actor = actor

    def record(
        self, obs: Tensor, actions: Tensor, chunks: list[Tensor], generator: torch.Generator
    ) -> Record:
        log_probability = obs.new_empty(len(obs))
        with torch.no_grad():
            for rows in chunks:
                log_probability[rows] = gaussian.log_probability(actions[rows], *self.actor(obs[rows]))
        return {"log_probability": log_probability}

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> Comparison:
        mean, std = self.actor(obs)
        log_ratio = ratio.likelihood(record["log_probability"], gaussian.log_probability(actions, mean, std))
        entropy = gaussian.entropy(std)
        with torch.no_grad():
            # KL(old, new) estimated by (r - 1) - log r, which is never negative (Schulman 2020).
            kl = (log_ratio.exp() - 1 - log_ratio).mean()
        return Comparison(log_ratio, entropy, {"kl": kl, "entropy": entropy.detach().mean()})


def _limited(loss: Tensor, limit: float) -> Tensor:
    """min(loss, limit) in value, with the gradient passed through: the worst fits go on learning."""
    return loss + (loss.clamp(max=limit) - loss).detach()
