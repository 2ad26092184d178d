"""Conditional flow matching: the (time, noise) probes and the loss at them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from flowrl.contracts.divisors import bounded
from flowrl.contracts.protocols import VelocityField
from flowrl.contracts.settings import Settings
from flowrl.flow import path

TimeLaw = Literal["uniform", "stratified", "grid", "lognormal", "log_odds"]
Antithetic = Literal["no", "pair", "mirrored"]
Weighting = Literal["u", "eps", "data", "elbo"]
Reduction = Literal["mean", "sum", "sqrt", "by_std"]


class ProbeSettings(Settings):
    """How many (time, noise) pairs per action, and where their times fall."""

    count: int = Field(8, ge=1, le=10_000)
    """Pairs per action. More make the ratio less noisy and the update proportionally slower."""
    law: TimeLaw = "uniform"
    """Law of the times: uniform on [0, 1]; stratified, one uniform time in each of `count` equal parts;
    grid, the nodes {0, 1/grid, …, 1 - 1/grid} of the paper's code; lognormal, t = 1 / (1 + s) with
    log s ~ N(mean, std); log_odds, log(t / (1 - t)) stratified over ± `odds`."""
    antithetic: Antithetic = "no"
    """Probes in pairs, which cut the noise of the ratio while the policy is young at no cost: pair, each noise with its
    negative at the same time; mirrored, at the time 1 - t."""
    grid: int = Field(10, ge=1, le=1_000_000)
    """Number of nodes of the law `grid`."""
    mean: float = Field(-1.2, ge=-50, le=50)
    """Mean of log s for the law `lognormal`; smaller puts more times near the action."""
    std: float = Field(1.2, gt=0, le=50)
    """Standard deviation of log s for the law `lognormal`."""
    odds: float = Field(4.0, gt=0, le=12)
    """Largest log-odds of the times for the law `log_odds`: 4 is 0.018 to 0.982."""

    coupled: bool = False
    """Whether the noise of one probe per action is that which the action was generated from. Where the velocity is the
    same on the lines to the action and to the flow's end, its CFM difference, summed over the numbers of the action, is
    2 · `perturbation`² times the log-ratio of `tail`."""

    @model_validator(mode="after")
    def _check_pairs(self) -> ProbeSettings:
        if self.antithetic != "no" and self.count % 2:
            raise ValueError(f"antithetic {self.antithetic} needs an even number of probes: count is {self.count}")
        if self.antithetic == "mirrored" and self.law in ("grid", "lognormal"):
            raise ValueError(
                f"antithetic mirrored needs a law that is the same backwards in time: {self.law} is not. Set law "
                "stratified, uniform or log_odds, or antithetic pair"
            )
        return self


@dataclass(frozen=True)
class Probes:
    """The pairs at which an update compares the old loss with the new one; drawn once per update."""

    times: Tensor  # (batch, probes, 1), t = 0 noise, t = 1 action
    noise: Tensor  # (batch, probes, action), standard normal

    def to(self, device: torch.device) -> Probes:
        """Return the same probes on `device`."""
        return Probes(self.times.to(device), self.noise.to(device))

    def __getitem__(self, rows: Tensor) -> Probes:
        return Probes(self.times[rows], self.noise[rows])

    def coupled(self, noise: Tensor, settings: ProbeSettings) -> Probes:
        """Return the same probes with `noise` (batch, action) as that of the first, and its negative as its pair's."""
        own = self.noise.clone()
        own[:, 0] = noise
        if settings.antithetic != "no":
            own[:, settings.count // 2] = -noise
        return Probes(self.times, own)


def draw_probes(
    batch: int, action_size: int, settings: ProbeSettings, generator: torch.Generator | None = None
) -> Probes:
    """Draw probes for `batch` actions of `action_size` numbers each.

    Antithetic pairs: where the loss is nearly odd in the noise, as the difference of two losses of a young policy is,
    the pair's mean has less noise than that of two independent probes (antithetic variates, Hammersley & Morton 1956).
    Every probe by itself has the law of the settings, so the mean is the same.
    """
    paired = settings.antithetic != "no"
    drawn = settings.count // 2 if paired else settings.count
    noise = torch.randn(batch, drawn, action_size, generator=generator, device=_device(generator))
    times = _draw_times((batch, drawn, 1), settings, generator)
    if not paired:
        return Probes(times, noise)
    others = 1 - times if settings.antithetic == "mirrored" else times
    return Probes(torch.cat([times, others], dim=1), torch.cat([noise, -noise], dim=1))


def _device(generator: torch.Generator | None) -> torch.device | None:
    return None if generator is None else generator.device


def _draw_times(shape: tuple[int, int, int], settings: ProbeSettings, generator: torch.Generator | None) -> Tensor:
    """Draw times of `shape`; of mirrored pairs the first halves, which lie in the strata before the middle of time."""
    device = _device(generator)
    if settings.law == "grid":
        return torch.randint(settings.grid, shape, generator=generator, device=device) / settings.grid
    if settings.law == "lognormal":
        log_s = settings.mean + settings.std * torch.randn(shape, generator=generator, device=device)
        return torch.sigmoid(-log_s).clamp(1e-4, 1 - 1e-4)
    uniform = torch.rand(shape, generator=generator, device=device)
    if settings.law == "uniform":
        return uniform
    strata = settings.count if settings.antithetic == "mirrored" else shape[1]
    stratified = (torch.arange(shape[1], device=device).reshape(1, -1, 1) + uniform) / strata
    if settings.law == "log_odds":
        return torch.sigmoid((2 * stratified - 1) * settings.odds)
    return stratified


class LossSettings(Settings):
    """Weighting and reduction of the CFM loss."""

    weighting: Weighting = "u"
    """w(t) in w(t) · |v - u|²: u, 1; eps, t²; data, (1 - t)² (the errors of the predicted noise and action; t and
    1 - t are taken to be at least 0.02, as in the network); elbo, t / (1 - t), whose log-ratio is that of the
    likelihoods for exact fields, such as a `policy.base` without a network. For a network it grows with
    log(1 / `elbo_floor`), so the floor sets its size (measured: 0.9 to 9.5 times the exact log-ratio). Prefer u."""
    reduction: Reduction = "mean"
    """Over the action's numbers: mean, sum, sqrt, the sum over sqrt(d), or by_std, the sum of each over π/2 times its
    standard deviation in the policy's `base`. The log-ratio grows with it, and so does the clip range that belongs to
    it. With by_std it is that of likelihoods for a small change of a Gaussian's mean, at every spread (nearly, where a
    network is added to the base). With the others and weighting u it is proportional to the spread, so a clip range
    allows the larger changes of the likelihood the narrower the policy is."""
    elbo_floor: float = Field(1e-3, ge=1e-12, lt=1)
    """Lower bound of 1 - t in the weighting `elbo`, which is unbounded at t = 1 without it. The smaller, the larger
    are a network's log-ratios."""

    @model_validator(mode="after")
    def _check_by_std(self) -> LossSettings:
        if self.reduction == "by_std" and self.weighting != "u":
            raise ValueError(
                f"reduction by_std is the unit of likelihoods for weighting u, and weighting is {self.weighting}: "
                "set weighting to u, or reduction to mean, sum or sqrt"
            )
        return self


def weight(t: Tensor, settings: LossSettings) -> Tensor:
    """Compute w(t) at the times `t`, in their shape.

    The noise and the action that a velocity v predicts at x_t are x_t - t v and x_t + (1 - t) v: their squared errors
    are t² and (1 - t)² times that of v; t and 1 - t are bounded below as where a network divides by them
    (`flowrl.networks.velocity.to_velocity`), so that this is the squared error of its output at every time. The
    negative ELBO, (1/2) ∫ |predicted noise - noise|² dλ with λ = 2 ln(t / (1 - t)) (Kingma & Gao 2023,
    arXiv 2303.00848), thus weights |v - u|² with t / (1 - t). At t = 1 the exact velocity is x, the action itself; a
    network's is not, and its integral over t diverges like the logarithm of 1 / `elbo_floor`.
    """
    weightings: dict[Weighting, Callable[[], Tensor]] = {
        "u": lambda: torch.ones_like(t),
        "eps": lambda: bounded(t).square(),
        "data": lambda: bounded(1 - t).square(),
        "elbo": lambda: t / (1 - t).clamp(min=settings.elbo_floor),
    }
    return weightings[settings.weighting]()


def cfm_loss(
    field: VelocityField,
    obs: Tensor,
    actions: Tensor,
    probes: Probes,
    settings: LossSettings,
    inverse_std: Tensor | None = None,
) -> Tensor:
    """Compute the conditional flow matching loss w(t) · |v(x_t, t; obs) - (action - noise)|² per probe (FPO,
    arXiv 2507.21053, section 3; Algorithm 1 compares it before and after a step).

    obs (batch, observation), actions (batch, action), probes (batch, n) → losses (batch, n).

    The loss of a number a of the action in the flow to N(m, s²), its mean over uniform times and the noise, is
    π/4 ((a - m)²/s + s) with weighting u, and the negative log-likelihood ((a - m)/s)²/2 + log s. So the factor
    (2/π) · `inverse_std`, 1/s of the old policy (batch, action), makes the difference of two losses that of two
    log-likelihoods for a small change of m, and half of it for one of s: reduction by_std, which needs it. Raises
    ValueError where one is given without the other.
    """
    if (inverse_std is None) is (settings.reduction == "by_std"):
        raise ValueError("inverse_std belongs to reduction by_std, and reduction by_std needs it")
    action = actions.unsqueeze(1)
    x_t = path.interpolate(probes.noise, action, probes.times)
    target = path.target_velocity(probes.noise, action)
    velocity = field.bind(obs.unsqueeze(1))(x_t, probes.times)
    errors = (velocity - target).square()
    squares = (errors if inverse_std is None else errors * inverse_std.unsqueeze(1)).sum(dim=-1)
    if settings.weighting != "u":
        squares = weight(probes.times.squeeze(-1), settings) * squares
    factor = _factor(actions.shape[-1], settings.reduction)
    return squares if factor == 1 else squares * factor


def _factor(action_size: int, reduction: Reduction) -> float:
    return {"sum": 1.0, "mean": 1 / action_size, "sqrt": 1 / math.sqrt(action_size), "by_std": 2 / math.pi}[reduction]
