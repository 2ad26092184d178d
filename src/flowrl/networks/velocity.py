"""The velocity network of a flow: from observation, point and time to velocity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from flowrl.contracts.divisors import SMALLEST_DIVISOR, bounded
from flowrl.contracts.errors import CheckpointError
from flowrl.contracts.protocols import Velocity
from flowrl.contracts.settings import Settings
from flowrl.networks.gaussian import SMALLEST_STD, GaussianActor, GaussianSettings
from flowrl.networks.kept_times import KeptTimes
from flowrl.networks.mask import ObservationMask
from flowrl.networks.mixture import FIRST_STD, MixtureActor
from flowrl.networks.mlp import RESIDUAL, Activation, Widths, check_residual, kind_of_mlp, lecun_uniform

Parameterisation = Literal["u", "eps", "data"]
Base = Literal["none", "normal", "mixture"]

COMPONENTS = 4


class NetworkSettings(Settings):
    """Size and parameterisation of a velocity network."""

    hidden: Widths = (64, 64)
    """Widths of the hidden layers. Wider fits finer actions and costs time quadratically."""
    activation: Activation = "silu"
    """Between layers. The smooth ones (silu, elu, tanh) give smoother velocities than relu."""
    residual: bool = RESIDUAL
    time_features: int = Field(8, ge=2, le=64, multiple_of=2)
    """cos and sin of t · {1, 2, 4, 8, …}, half each. More let the velocity change faster along time."""
    output_scale: float = Field(0.25, ge=0, le=1000)
    """Factor on the output. The smaller, the nearer to what `parameterisation` says are the first actions. 0, with a
    `base` only, leaves the base as it is: the policy then is a Gaussian, or a mixture, that a flow carries noise to."""
    base: Base = "none"
    """A velocity that the network's is added to: none; normal, that of the flow to a Gaussian with a learned spread,
    whose mean another network of the same widths (with tanh) predicts from the observation; or mixture, to several
    Gaussians. What such a network learns from one probe holds at all times and points, so the likelihood keeps
    following the CFM loss late in training. With a base, an export needs `output_scale` 0."""
    components: int = Field(COMPONENTS, ge=2, le=64)
    """Number of Gaussians of base mixture."""
    smallest_std: float = Field(SMALLEST_STD, ge=SMALLEST_STD, lt=FIRST_STD)
    """Spread of a base's Gaussians that training cannot go below: below it the policy would no longer explore."""
    parameterisation: Parameterisation = "u"
    """What the network predicts: u, the velocity; eps, the noise, as the point x plus the output; data, the action.
    Before squashing, the first actions are near N(0, 1) with u (std 0.98 to 1.02) and eps (1.0 to 1.25, but 2 to 4.5
    with a single step), and near 0 with data (0.05 to 0.15): it explores by its `perturbation`."""

    @model_validator(mode="after")
    def _check_widths(self) -> NetworkSettings:
        check_residual(self.hidden, self.residual)
        if self.base == "none" and self.output_scale == 0:
            raise ValueError(
                "output_scale 0 takes the network away: set it above 0, such as 0.25, or base to normal or mixture"
            )
        if self.base != "mixture" and self.components != COMPONENTS:
            raise ValueError(f"components is of base mixture, and base is {self.base}: set it to mixture, or leave it")
        if self.base == "none" and self.smallest_std != SMALLEST_STD:
            raise ValueError("smallest_std is of a base, and base is none: set base to mixture or normal, or leave it")
        if self.base != "none" and self.parameterisation != "u":
            raise ValueError(
                f"base {self.base} is a velocity, to which the network adds one: parameterisation is "
                f"{self.parameterisation}. Set parameterisation to u, or base to none"
            )
        return self


def to_velocity(output: Tensor, x: Tensor, t: float | Tensor, parameterisation: Parameterisation) -> Tensor:
    """Convert the network's prediction at the point `x` and time `t` to a velocity.

    u: v = output; eps: v = (x - eps) / t with eps = x + output, so v = -output / t; data: v = (output - x) / (1 - t);
    from eps = x - t v and data = x + (1 - t) v. The divisors are at least `SMALLEST_DIVISOR`; nearer to the end of
    time the network predicts the point that lies this far back, or ahead, in time.
    """
    if parameterisation == "u":
        return output
    if parameterisation == "eps":
        return -output / bounded(t)
    return (output - x) / bounded(1 - t)


class TimeFeatures(nn.Module):
    """Fourier features cos and sin of t · 2^k, k = 0, 1, … of the time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # not torch.arange: on the meta device it imports torch's compiler, which takes seconds
        self.frequencies: Tensor = nn.Buffer(torch.tensor([2.0**k for k in range(size // 2)]), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Compute the features (..., size) of the times `t` (..., 1)."""
        angle = t * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class FlowNetwork(nn.Module):
    """A multi-layer perceptron over (observation, x, time features): flowrl's `VelocityField`.

    It sees the `visible` (observation,) bool entries of the observation; None: all. `latest_time` is the largest time
    at which its velocity is meaningful: that of a predicted action is 0 / 0 at t = 1.
    """

    def __init__(
        self, observation_size: int, action_size: int, settings: NetworkSettings, visible: Tensor | None = None
    ) -> None:
        super().__init__()
        self.mask = ObservationMask(visible)
        self.observation_size = observation_size
        self.action_size = action_size
        self.settings = settings
        self.latest_time = 1 - SMALLEST_DIVISOR if settings.parameterisation == "data" else 1.0
        if settings.parameterisation == "eps":
            # A mark in the saved weights: those without it are of a network whose output was the noise itself.
            self.predicts_residual = nn.Buffer(torch.ones(()))
        self.time_features = TimeFeatures(settings.time_features)
        widths = [observation_size + action_size + settings.time_features, *settings.hidden, action_size]
        self.layers = kind_of_mlp(settings.residual)(widths, settings.activation, lecun_uniform)
        self.base: GaussianActor | MixtureActor | None = None
        of_base = GaussianSettings(
            hidden=settings.hidden, residual=settings.residual, smallest_std=settings.smallest_std
        )
        if settings.base == "normal":
            self.base = GaussianActor(observation_size, action_size, of_base, visible)
        elif settings.base == "mixture":
            self.base = MixtureActor(observation_size, action_size, settings.components, of_base, visible)
        self.layers.requires_grad_(not self.is_base_alone)
        self._folded: FoldedLayers | None = None

    @property
    def is_base_alone(self) -> bool:
        """Whether the velocity is that of the base alone, so that the layers are neither evaluated nor trained."""
        return self.settings.output_scale == 0

    def inverse_std(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Compute the inverse of the base's standard deviations at obs (batch, observation) and actions (batch,
        action), in the form of the actions. Raises ValueError without a base."""
        if self.base is None:
            raise ValueError("a flow without a base has no standard deviation: set policy.base")
        return self.base.inverse_std(obs, actions)

    def check_form(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Raise CheckpointError for saved weights of a network that predicts the noise in the earlier form."""
        if self.settings.parameterisation == "eps" and f"{prefix}predicts_residual" not in state_dict:
            raise CheckpointError(
                "the network of the checkpoint does not predict the noise as this version does, which adds the output "
                "to the point (policy.parameterisation: eps): with its weights the actions would be other ones. Use "
                "the version of flowrl that saved it, or train again."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.check_form(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def bind(self, obs: Tensor) -> Velocity:
        """Return the velocity for `obs` (..., observation), whose share of the first layer is computed here, once."""
        return BoundVelocity(self, obs)

    def first_layer(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return views of the first layer: weights for observation, for x, for time features, and the bias."""
        first = self.layers.linears[0]
        sizes = [self.observation_size, self.action_size, self.settings.time_features]
        of_obs, of_x, of_time = first.weight.split(sizes, dim=1)
        return of_obs, of_x, of_time, first.bias

    def folded(self) -> FoldedLayers:
        """Return the layers as they are evaluated without gradients; they are made again after every change.

        Fused optimisers change weights without a count (`KeptTimes`), so the folded layers are also dropped whenever
        the network is bound with gradients enabled, as it is before every optimiser step.
        """
        if self._folded is None or not self._folded.time_rows.are_of(_weights(self.layers.linears)):
            self._folded = FoldedLayers(self)
        return self._folded

    def drop_kept(self) -> None:
        """Forget the folded layers and the base's times, because the weights may change without a count."""
        self._folded = None
        if isinstance(self.base, MixtureActor):
            self.base.drop_times()


class FoldedLayers:
    """The layers of a `FlowNetwork` in the form in which they are evaluated fastest without gradients.

    A layer is one operation, `addmm` of its bias and its transposed weight, which is contiguous; the last one is
    multiplied by `output_scale` beforehand. The shares of the times in the first layer are kept: they are the same
    for all rows and in every call. Equal to the layers themselves but for the rounding of sums.
    """

    def __init__(self, network: FlowNetwork) -> None:
        linears = network.layers.linears
        of_obs, of_x, of_time, bias = (part.detach() for part in network.first_layer())
        self.first = bias[None], _transposed(of_obs)  # (1, hidden), (observation, hidden)
        self.of_x = _transposed(of_x)  # (action, hidden)
        self.hidden = [(layer.bias.detach()[None], _transposed(layer.weight.detach())) for layer in linears[1:-1]]
        scale, last = network.settings.output_scale, linears[-1]
        self.last = (last.bias.detach() * scale)[None], _transposed(last.weight.detach() * scale)
        # no method of this object, which would then be freed by the garbage collector alone
        compute = partial(_time_row, of_time=of_time, features=network.time_features)
        self.time_rows = KeptTimes(_weights(linears), compute)


def _time_row(t: float, of_time: Tensor, features: TimeFeatures) -> Tensor:
    """Compute the share W_time · features(t) of time `t` in the first layer, (1, hidden)."""
    return functional.linear(features(of_time.new_full((1, 1), t)), of_time)


def _weights(linears: Sequence[nn.Linear]) -> list[Tensor]:
    return [tensor for layer in linears for tensor in (layer.weight, layer.bias)]


def _transposed(weight: Tensor) -> Tensor:
    return weight.t().contiguous()


class BoundVelocity:
    """`FlowNetwork` with its observation bound; see `flowrl.contracts.protocols.Velocity`."""

    def __init__(self, network: FlowNetwork, obs: Tensor) -> None:
        self._network = network
        self._parameterisation = network.settings.parameterisation
        self._folded: FoldedLayers | None = None
        self._base = None if network.base is None else network.base.bind(obs)
        if network.is_base_alone:
            return
        if torch.is_grad_enabled():
            network.drop_kept()
        elif obs.dim() == 2 and network.layers.foldable:
            self._folded = network.folded()
            self._activate = network.layers.activate_in_place
            self._form = torch.Size((len(obs), network.action_size))  # of the points that it is evaluated at
            bias, of_obs = self._folded.first
            self._share_of_obs = torch.addmm(bias, network.mask(obs), of_obs)
            return
        of_obs, _, _, bias = network.first_layer()
        self._share_of_obs = functional.linear(network.mask(obs), of_obs, bias)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        if self._base is None:
            return to_velocity(self._scaled_output(x, t), x, t, self._parameterisation)
        of_base = self._base(x, t)
        return of_base if self._network.is_base_alone else of_base + self._scaled_output(x, t)

    def _scaled_output(self, x: Tensor, t: float | Tensor) -> Tensor:
        if self._folded is not None and x.shape == self._form and isinstance(t, float) and not torch.is_grad_enabled():
            return self._output_folded(self._folded, x, t)
        return self._output(x, t if isinstance(t, Tensor) else x.new_full((1,), t))

    def _output(self, x: Tensor, t: Tensor) -> Tensor:
        network = self._network
        _, of_x, of_time, _ = network.first_layer()
        features = network.time_features(t.reshape(1, 1) if t.dim() == 0 else t)
        x_and_time = torch.cat([x, features.expand(*x.shape[:-1], -1)], dim=-1)
        hidden = functional.linear(x_and_time, torch.cat([of_x, of_time], dim=1))
        hidden += self._share_of_obs
        return network.layers.after_first(hidden) * network.settings.output_scale

    def _output_folded(self, layers: FoldedLayers, x: Tensor, t: float) -> Tensor:
        """Compute the scaled output at the points `x` (batch, action) and one time of all rows."""
        activate, addmm = self._activate, torch.addmm
        hidden = activate(addmm(self._share_of_obs + layers.time_rows.at(t), x, layers.of_x))
        for bias, weight in layers.hidden:
            hidden = activate(addmm(bias, hidden, weight))
        bias, weight = layers.last
        return addmm(bias, hidden, weight)
