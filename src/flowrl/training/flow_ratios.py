"""Ratios of a flow that are likelihood ratios: of the perturbation after its end, and of the continuous flow itself.

Neither knows the sampler: the first compares velocities on the straight lines from the recorded noise to the recorded
end, the second integrates the velocity by a method of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowrl.flow import path
from flowrl.flow.density import log_density
from flowrl.flow.matching import ProbeSettings, draw_probes
from flowrl.networks.velocity import FlowNetwork
from flowrl.training.ratio import RatioResult, Record


@dataclass(frozen=True)
class TailRatio:
    """Compares the Gaussians of the perturbation around the ends of the old and the new flow.

    An action is a = m + σ n with the end m of the flow from the recorded noise z, so its likelihood, given z, is
    N(a; m, σ²). With δ = v_new - v_old at x_t = (1 - t) z + t m the end of a straight flow moves by δ, and
    log r = ((a - m)·δ - |δ|²/2) / σ², the mean over the times; KL(old, new) = E|δ|² / (2 σ²). Exact where δ is the same
    at all times; else the ratio is too small and the KL an upper bound, by the variance of δ over the times. The form
    of PolicyFlow (arXiv 2602.01156), and of FSPPO for a flow of one step.
    """

    actor: FlowNetwork
    probes: ProbeSettings  # whose times are used
    sigma: float  # the policy's perturbation
    generation: tuple[str, ...] = ("noise", "end")

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
    ) -> Record:
        noise, end = given["noise"], given["end"]
        times = draw_probes(len(obs), actions.shape[-1], self.probes, draws).to(obs.device).times
        velocity = obs.new_empty(len(obs), times.shape[1], actions.shape[-1])
        with torch.no_grad():
            for rows in chunks:
                velocity[rows] = self._velocity(obs[rows], noise[rows], end[rows], times[rows])
        return {"times": times, "noise": noise, "end": end, "velocity": velocity}

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        new = self._velocity(obs, record["noise"], record["end"], record["times"])
        moved = new - record["velocity"]
        distance = moved.square().sum(dim=-1)
        towards = (moved * (actions - record["end"]).unsqueeze(1)).sum(dim=-1)
        log_ratio = ((towards - distance / 2) / self.sigma**2).mean(dim=-1, keepdim=True)
        kl = distance.detach().mean() / (2 * self.sigma**2)
        return RatioResult(log_ratio, None, {"kl": kl})

    def _velocity(self, obs: Tensor, noise: Tensor, end: Tensor, times: Tensor) -> Tensor:
        """Compute the velocities (batch, times, action) on the lines from noise to end."""
        points = path.interpolate(noise.unsqueeze(1), end.unsqueeze(1), times)
        return self.actor.bind(obs.unsqueeze(1))(points, times)


@dataclass(frozen=True)
class ExactRatio:
    """Compares the likelihoods of the continuous flows: an upper bound for what a ratio of a flow can be.

    log r = log p_new(a) - log p_old(a), by the instantaneous change of variables (`flowrl.flow.density`). It is the
    ratio of the policy that acts as far as the sampler follows the flow. An update costs 2 · steps · (action + 1)
    passes with their gradients where the CFM ratio costs one per probe.
    """

    actor: FlowNetwork
    steps: int = 5
    generation: tuple[str, ...] = ()

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
    ) -> Record:
        density = obs.new_empty(len(obs))
        for rows in chunks:
            density[rows] = log_density(self.actor, obs[rows], actions[rows], self.steps).detach()
        return {"log_probability": density}

    def compare(self, obs: Tensor, actions: Tensor, record: Record, advantage: Tensor) -> RatioResult:
        new = log_density(self.actor, obs, actions, self.steps)
        log_ratio = (new - record["log_probability"]).unsqueeze(-1)
        change = log_ratio.detach()
        return RatioResult(log_ratio, None, {"kl": (change.exp() - 1 - change).mean()})
