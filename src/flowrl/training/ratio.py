"""The ratio of the new policy to the old one: log-ratios as functions, and the estimators that measure them.

An estimator records the old policy once per update, with the weights that acted, and compares in every minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from flowrl.flow.matching import LossSettings, Probes, ProbeSettings, cfm_loss, draw_probes
from flowrl.networks import gaussian
from flowrl.networks.gaussian import GaussianActor
from flowrl.networks.velocity import FlowNetwork

RatioName = Annotated[
    Literal["averaged", "per_probe", "tail", "exact", "likelihood"],
    Field(
        description="averaged (FPO) and per_probe (FPO++) compare CFM losses; tail compares likelihoods of the "
        "`perturbation` that was added to the flow's end; exact those of the continuous flow, for a few action numbers "
        "and 10 to 20 times the time; likelihood is PPO's."
    ),
]
Record = dict[str, Tensor]  # each (batch, …): sliced by minibatch rows


@dataclass(frozen=True)
class RatioResult:
    """The comparison of the new policy with the old one on a minibatch."""

    log_ratio: Tensor  # (batch, n), n = probes or 1
    entropy: Tensor | None  # (batch,) nats, None where the policy has no closed form
    metrics: dict[str, Tensor]  # scalars without gradient
    penalty: Tensor | None = None  # scalar, added to the loss


class RatioEstimator(Protocol):
    """Measures the ratio of the new policy to the old one, for a learner that is independent of its kind."""

    @property
    def actor(self) -> nn.Module:
        """The network whose weights are learned."""
        ...

    @property
    def generation(self) -> tuple[str, ...]:
        """What the rollout records of how an action was generated: names in `flowrl.policies.flow.GENERATION`."""
        return ()

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
    ) -> Record:
        """Return what `compare` needs of the old policy, for obs (batch, observation) and actions (batch, action).

        `given` is what the rollout recorded, each (batch, action), and `draws` the generator of random numbers.
        `chunks` are the rows of the first epoch's minibatches: computed in the same pieces, the new value
        of the first minibatch equals the old one to the last bit, and the first ratio is exactly 1.
        """
        ...

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        """Compare the new policy with the `record` of the old one; `advantage` is (batch,)."""
        ...


@dataclass(frozen=True)
class CFMRatio:
    """Compares the CFM losses of a velocity network at probes that are drawn once per update.

    FPO, arXiv 2507.21053, Algorithm 1; with one ratio per probe FPO++, arXiv 2602.02481. `anchor` times the mean loss
    of the policy's own actions is added to the loss, which holds the flow to what it generates (ReFPO's regulariser).
    """

    actor: FlowNetwork
    probes: ProbeSettings
    loss: LossSettings
    log_ratio: Callable[[Tensor, Tensor], Tensor]  # (old losses, new losses), each (batch, n)
    loss_limit: float | None = None
    loss_limit_negative: float | None = None
    anchor: float = 0.0

    @property
    def generation(self) -> tuple[str, ...]:
        return ("noise",) if self.probes.coupled else ()

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
    ) -> Record:
        probes = draw_probes(len(obs), actions.shape[-1], self.probes, draws).to(obs.device)
        if self.probes.coupled:
            probes = probes.coupled(given["noise"], self.probes)
        inverse_std = torch.empty_like(actions) if self.loss.reduction == "by_std" else None
        loss = obs.new_empty(probes.times.shape[:2])
        with torch.no_grad():
            for rows in chunks:
                own = None
                if inverse_std is not None:
                    own = inverse_std[rows] = self.actor.inverse_std(obs[rows], actions[rows])
                loss[rows] = cfm_loss(self.actor, obs[rows], actions[rows], probes[rows], self.loss, own)
        record = {"times": probes.times, "noise": probes.noise, "loss": loss}
        return record if inverse_std is None else record | {"inverse_std": inverse_std}

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        probes = Probes(record["times"], record["noise"])
        new = cfm_loss(self.actor, obs, actions, probes, self.loss, record.get("inverse_std"))
        old = record["loss"]
        mean_loss = new.mean()
        if self.loss_limit is not None:
            old, new = _limited(old, self.loss_limit), _limited(new, self.loss_limit)
        if self.loss_limit_negative is not None:
            new = torch.where(advantage.unsqueeze(-1) < 0, _limited(new, self.loss_limit_negative), new)
        penalty = self.anchor * mean_loss if self.anchor else None
        return RatioResult(self.log_ratio(old, new), None, {"cfm_loss": mean_loss.detach()}, penalty)


@dataclass(frozen=True)
class LikelihoodRatio:
    """Compares the log-probabilities of a Gaussian actor: PPO, arXiv 1707.06347."""

    actor: GaussianActor
    generation: tuple[str, ...] = ()

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
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
            # KL(old, new) estimated by (r - 1) - log r, which is never negative (Schulman 2020,
            # "Approximating KL divergence", joschu.net/blog/kl-approx.html).
            kl = (log_ratio.exp() - 1 - log_ratio).mean()
        return RatioResult(log_ratio, entropy, {"kl": kl, "entropy": entropy.detach().mean()})


def _limited(loss: Tensor, limit: float) -> Tensor:
    """min(loss, limit) in value, with the gradient of `loss`: actions beyond the limit still learn."""
    return loss + (loss.clamp(max=limit) - loss).detach()


def averaged(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """Compute log r = mean over probes of (old loss - new loss); (batch, n) → (batch, 1).

    FPO, arXiv 2507.21053, Algorithm 1: the mean is taken before the exponential.
    """
    return (old_loss - new_loss).mean(dim=-1, keepdim=True)


def per_probe(old_loss: Tensor, new_loss: Tensor) -> Tensor:
    """Compute log r_i = old loss_i - new loss_i, one ratio per probe; (batch, n) → (batch, n).

    FPO++, arXiv 2602.02481: the ratio of every probe is clipped separately.
    """
    return old_loss - new_loss


CFM_LOG_RATIOS: dict[RatioName, Callable[[Tensor, Tensor], Tensor]] = {"averaged": averaged, "per_probe": per_probe}


def likelihood(old_log_probability: Tensor, new_log_probability: Tensor) -> Tensor:
    """Compute log r = log π_new(a|o) - log π_old(a|o); (batch,) → (batch, 1) (PPO, arXiv 1707.06347)."""
    return (new_log_probability - old_log_probability).unsqueeze(-1)


def bounded(log_ratio: Tensor, bound: float) -> Tensor:
    """Return the log-ratio, clamped to ±bound in value, with its gradient unchanged.

    exp overflows float32 at 88.7 and then 0 · inf makes the gradient NaN even where the clipped branch is
    chosen; a bounded value keeps it finite, and the unchanged gradient still pulls the ratio back.
    """
    return log_ratio + (log_ratio.clamp(-bound, bound) - log_ratio).detach()


@torch.no_grad()
def ratio_metrics(raw: Tensor, log_ratio: Tensor, clip: float, bound: float) -> dict[str, Tensor]:
    """Compute mean and extremes of the ratios, the share outside 1 ± `clip`, and the share of the `raw` log-ratios
    beyond ± `bound`, within which `log_ratio` is clamped."""
    ratio = log_ratio.exp()
    return {
        "ratio_mean": ratio.mean(),
        "ratio_min": ratio.min(),
        "ratio_max": ratio.max(),
        "log_ratio_std": log_ratio.std(correction=0),
        "clipped_share": ((ratio - 1).abs() > clip).float().mean(),
        "bound_share": (raw.abs() > bound).float().mean(),
    }
