"""A mixture of Gaussians and the velocity of the flow to it."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from flowrl.contracts.protocols import Velocity
from flowrl.networks.gaussian import GaussianSettings, log_probability, to_spread, to_std
from flowrl.networks.kept_times import KeptTimes
from flowrl.networks.mask import ObservationMask
from flowrl.networks.mixture_at_probes import VelocityAtProbes
from flowrl.networks.mlp import kind_of_mlp, orthogonal

OfTime = tuple[Tensor, Tensor, Tensor]

FIRST_CENTRES = 0.5  # standard deviation of the components' first means: equal components would stay equal
FIRST_STD = math.sqrt(1 - FIRST_CENTRES**2)  # of each component: the variance of the whole is near 1


def mixture_velocity(x: Tensor, t: float | Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
    """Compute the velocity that carries N(0, I) on straight paths to Σ_k w_k N(mean_k, std_k²).

    v = Σ_k p(k | x, t) v_k, with the velocity v_k of the flow to a component (`gaussian_velocity`) and
    p(k | x, t) ∝ w_k N(x; t mean_k, t² std_k² + (1 - t)²): the mean of action - noise, given
    x = (1 - t) noise + t action (Lipman et al. 2023, arXiv 2210.02747, theorem 1).

    Args:
        x: Points (..., action).
        t: Times, a number or (..., 1).
        means: (..., component, action).
        std: (..., component, action).
        log_weights: (..., component).

    The leading axes broadcast.
    """
    dims = max(x.dim() + 1, means.dim(), std.dim(), log_weights.dim() + 1)
    if isinstance(t, Tensor):
        dims = max(dims, t.dim() + 1)
        t = _rows_last(t.unsqueeze(-2) if t.dim() else t, dims)
    x, means, std = (_rows_last(each, dims) for each in (x.unsqueeze(-2), means, std))
    rest = 1 - t
    squared = std.square()
    variance = squared * (t * t) + rest * rest
    away = x - t * means
    scaled = away / variance
    logits = _rows_last(log_weights, dims - 1) - 0.5 * torch.addcmul(variance.log(), away, scaled).sum(dim=0)
    velocities = torch.addcmul(means, squared * t - rest, scaled)  # `gaussian_velocity`, with one division for both
    return _reversed((logits.softmax(dim=0) * velocities).sum(dim=1))


def _velocity_at_probes(x: Tensor, t: float | Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
    """Compute `mixture_velocity` for means (batch, 1, component, action), where possible with written gradients."""
    probes = len(means), *x.shape[1:-1], 1  # the form of a time for each
    if isinstance(t, Tensor) and x.dim() == 3 and t.shape == probes and not x.requires_grad:
        velocity: Tensor = VelocityAtProbes.apply(x, t, means, std, log_weights)  # type: ignore[no-untyped-call]
        return velocity
    return mixture_velocity(x, t, means, std, log_weights)


def _reversed(values: Tensor) -> Tensor:
    return values.permute(*reversed(range(values.dim())))


def _rows_last(values: Tensor, dims: int) -> Tensor:
    """Return `values` with `dims` axes in reverse order: the sums over the short axes of components and actions are
    then sums of long rows, twice as fast."""
    return _reversed(values[(None,) * (dims - values.dim())]).contiguous()


class MixtureActor(nn.Module):
    """Computes Σ_k w_k(obs) N(mean_k(obs), std_k²) with independent action dimensions in each component.

    Before training its mean is near 0, and its variance 1 - 0.25 / components on average over the dimensions.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        components: int,
        settings: GaussianSettings,
        visible: Tensor | None = None,
    ) -> None:
        """Make the network; it sees the `visible` (observation,) bool entries of the observation, None: all."""
        super().__init__()
        self.mask = ObservationMask(visible)
        self.shape = (components, action_size)
        widths = [observation_size, *settings.hidden, components * (action_size + 1)]
        self.layers = kind_of_mlp(settings.residual)(widths, settings.activation, orthogonal(), orthogonal(gain=0.01))
        centres = FIRST_CENTRES * torch.randn(self.shape)
        self.centres = nn.Parameter(centres - centres.mean(dim=0))  # (component, action)
        self.smallest_std = settings.smallest_std
        spread = to_spread(FIRST_STD, self.smallest_std)
        self.spread = nn.Parameter(torch.full(self.shape, spread))  # (component, action)
        self._kept: KeptTimes[OfTime] | None = None

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute means (..., component, action), standard deviations (component, action) and the logarithms of the
        weights (..., component) at the observations (..., observation)."""
        output = self.layers(self.mask(obs))
        components, action = self.shape
        of_means, logits = output.split([components * action, components], dim=-1)
        means = self.centres + of_means.unflatten(-1, self.shape)
        return means, self.std(), logits.log_softmax(dim=-1)

    def std(self, precision: torch.dtype | None = None) -> Tensor:
        """Compute the standard deviations (component, action), in `precision` where that is given."""
        return to_std(self.spread.to(precision), self.smallest_std)

    def inverse_std(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Compute Σ_k p(k | action) / std_k (batch, action), where p(k | action) ∝ w_k N(action; mean_k, std_k²) is the
        probability that component k made the action; obs (batch, observation), actions (batch, action)."""
        means, std, log_weights = self(obs)
        of_components = log_probability(actions.unsqueeze(-2), means, std)
        made_by = (log_weights + of_components).softmax(dim=-1).unsqueeze(-1)
        return (made_by / std).sum(dim=-2)

    def bind(self, obs: Tensor) -> Velocity:
        """Return the velocity of the flow to the mixtures at `obs` (..., observation)."""
        means, std, log_weights = self(obs)
        if torch.is_grad_enabled():
            self.drop_times()  # a fused optimiser changes `spread` without a count: see FlowNetwork.folded
        elif obs.dim() == 2:
            if self._kept is None or not self._kept.are_of([self.spread]):
                self._kept = KeptTimes([self.spread], partial(_of_time, std=std))
            return MixtureOfRows(self._kept, means, std, log_weights)
        at_probes = obs.dim() == 3 and obs.shape[1] == 1
        velocity = _velocity_at_probes if at_probes else mixture_velocity
        return partial(velocity, means=means, std=std, log_weights=log_weights)

    def drop_times(self) -> None:
        """Forget what was kept of times, because `spread` may change without a count."""
        self._kept = None


def _of_time(t: float, std: Tensor) -> OfTime:
    """Compute what the velocity at the time `t` takes from the standard deviations (component, action) alone: 1 /
    variance and the slope c of `gaussian_velocity`, each (action, component, 1), and the halved sum over the actions of
    log variance (component, 1)."""
    squared = std.square().t().unsqueeze(-1)
    variance = squared * (t * t) + (1 - t) ** 2
    slope = (squared * t - (1 - t)) / variance
    return variance.reciprocal(), slope, 0.5 * variance.log().sum(dim=0)


class MixtureOfRows:
    """The velocity of the flow to one mixture per row, without gradients: `mixture_velocity` but for rounding, in half
    the time at one number as time."""

    def __init__(self, times: KeptTimes[OfTime], means: Tensor, std: Tensor, log_weights: Tensor) -> None:
        self._times = times
        self._mixtures = means, std, log_weights
        self._means, self._log_weights = _rows_last(means, 3), _rows_last(log_weights, 2)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        if isinstance(t, Tensor) or x.dim() != 2 or torch.is_grad_enabled():
            return mixture_velocity(x, t, *self._mixtures)
        inverse, slope, log_variance = self._times.at(t)
        away = torch.sub(_rows_last(x, 2).unsqueeze(1), self._means, alpha=t)  # (action, component, row)
        distance = (away.square() * inverse).sum(dim=0)
        weights = torch.sub(self._log_weights - log_variance, distance, alpha=0.5).softmax(dim=0)
        return (torch.addcmul(self._means, slope, away) * weights).sum(dim=1).t()
