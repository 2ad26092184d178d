"""The value network."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor, nn

from flowrl.contracts.settings import Settings
from flowrl.networks.mask import ObservationMask
from flowrl.networks.mlp import Activation, Widths, check_residual, kind_of_mlp, orthogonal


class CriticSettings(Settings):
    """Size of the value network."""

    hidden: Widths = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """Between layers."""
    residual: bool = Field(
        False, description="Residual connections and layer normalisation between equally wide hidden layers (SimBa)."
    )

    @model_validator(mode="after")
    def _check_widths(self) -> CriticSettings:
        check_residual(self.hidden, self.residual)
        return self


class Critic(nn.Module):
    """A multi-layer perceptron from the `visible` (observation,) bool entries of an observation to its value; None:
    all entries."""

    def __init__(self, observation_size: int, settings: CriticSettings, visible: Tensor | None = None) -> None:
        super().__init__()
        self.mask = ObservationMask(visible)
        widths = [observation_size, *settings.hidden, 1]
        self.layers = kind_of_mlp(settings.residual)(widths, settings.activation, orthogonal(), orthogonal(gain=1.0))

    def forward(self, obs: Tensor) -> Tensor:
        """Compute the values (...,) of the observations (..., observation)."""
        return self.layers(self.mask(obs)).squeeze(-1)
