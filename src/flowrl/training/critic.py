"""The value network."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from flowrl.contracts.settings import Settings
from flowrl.flow.masking import ObservationMask
from flowrl.flow.network import ACTIVATIONS, Activation


class CriticSettings(Settings):
    """Size of the value network."""

    hidden: tuple[int, ...] = Field((64, 64), min_length=1)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """Between layers."""


class Critic(nn.Module):
    """A multi-layer perceptron from observation, or what is `visible` (observation,) bool of it, to value."""

    def __init__(
        self, observation_size: int, settings: CriticSettings, visible: Tensor | None = None
    ) -> None:
        super().__init__()
        self.mask = ObservationMask(visible)
        self.activation = ACTIVATIONS[settings.activation]
        self.layers = layers([observation_size, *settings.hidden, 1], last_gain=1.0)

    def forward(self, obs: Tensor) -> Tensor:
        """Values (...,) of the observations (..., observation)."""
        hidden = self.mask(obs)
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        return self.layers[-1](hidden).squeeze(-1)


def layers(widths: list[int], last_gain: float) -> nn.ModuleList:
    """Linear layers with orthogonal weights, gain sqrt(2) and `last_gain` for the last, and zero bias
    (the initialisation that PPO implementations found to matter: Engstrom et al. 2020)."""
    made = [nn.Linear(a, b) for a, b in pairwise(widths)]
    for layer in made:
        nn.init.orthogonal_(layer.weight, gain=last_gain if layer is made[-1] else math.sqrt(2))
        nn.init.zeros_(layer.bias)
    return nn.ModuleList(made)
