"""The ratio of the new policy to the old one: log-ratios as functions, and the estimators that measure them.

An estimator records the old policy once per update, with the weights that acted, and compares in every minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from flowrl.flow.matching import LossSettings, Probes, ProbeSettings, cfm_loss, draw_probes
from flowrl.networks import gaussian
from flowrl.networks.gaussian import GaussianActor
from flowrl.networks.velocity import FlowNetwork

Record = dict[str, Tensor]  # each (batch, …): sliced by minibatch rows


@dataclass(frozen=True)
class RatioResult:
    """The new policy beside the old one on a minibatch."""

    log_ratio: Tensor  # (batch, n), n = probes or 1
    entropy: Tensor | None  # (batch,) nats, None where the policy has no closed form
    metrics: dict[str, Tensor]  # scalars without gradient


class RatioEstimator(Protocol):
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

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        """The new policy against the record; `advantage` is (batch,)."""
        ...


class CFMRatio:
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

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        new = cfm_loss(self.actor, obs, actions, Probes(record["times"], record["noise"]), self._loss)
        old = record["loss"]
        mean_loss = new.detach().mean()
        if self._limit is not None:
            old, new = _limited(old, self._limit), _limited(new, self._limit)
        if self._limit_negative is not None:
            new = torch.where(advantage.unsqueeze(-1) < 0, _limited(new, self._limit_negative), new)
        return RatioResult(self._log_ratio(old, new), None, {"cfm_loss": mean_loss})


class LikelihoodRatio:
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

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        mean, std = self.actor(obs)
        log_ratio = likelihood(record["log_probability"], gaussian.log_probability(actions, mean, std))
        entropy = gaussian.entropy(std)
        with torch.no_grad():
            # KL(old, new) estimated by (r - 1) - log r, which is never negative (Schulman 2020).
            kl = (log_ratio.exp() - 1 - log_ratio).mean()
        return RatioResult(log_ratio, entropy, {"kl": kl, "entropy": entropy.detach().mean()})


def _limited(loss: Tensor, limit: float) -> Tensor:
    """min(loss, limit) in value, with the gradient passed through: the worst fits go on learning."""
    return loss + (loss.clamp(max=limit) - loss).detach()


def averaged(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """FPO: log r = mean over probes of (old loss - new loss); (batch, n) → (batch, 1).

    FPO, arXiv 2507.21053, eq. 13: the mean stands before the exponential.
    """
    return (old_loss - new_loss).mean(dim=-1, keepdim=True)


def per_probe(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """FPO++: log r_i = old loss_i - new loss_i, one ratio per probe; (batch, n) → (batch, n).

    FPO++, arXiv 2602.02481: every probe is clipped on its own.
    """
    return old_loss - new_loss


def likelihood(old_log_probability: Tensor, new_log_probability: Tensor) -> Tensor:
    """PPO: log r = log π_new(a|o) - log π_old(a|o); (batch,) → (batch, 1)."""
    return (new_log_probability - old_log_probability).unsqueeze(-1)


def bounded(log_ratio: Tensor, bound: float) -> Tensor:
    """The log-ratio kept within ±bound in value, with the gradient passed through unchanged.

    exp overflows float32 at 88.7 and then 0 · inf makes the gradient NaN even where the clipped branch is
    chosen; a bounded value keeps it finite, and passing the gradient keeps the pull back alive.
    """
    return log_ratio + (log_ratio.clamp(-bound, bound) - log_ratio).detach()
