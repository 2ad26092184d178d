"""The multi-layer perceptron of all networks, its activations and its initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, Strict
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["silu", "relu", "elu", "tanh"]
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Strict(False), Field(min_length=1, max_length=64)
]
"""Widths of the hidden layers, which a recipe writes as a list: [64, 64]."""

ACTIVATIONS: dict[Activation, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "silu": (functional.silu, partial(functional.silu, inplace=True)),
    "relu": (functional.relu, torch.relu_),
    "elu": (functional.elu, partial(functional.elu, inplace=True)),
    "tanh": (torch.tanh, torch.tanh_),
}
"""Each activation, and the same in place."""

Initialiser = Callable[[nn.Linear], None]


class MLP(nn.ModuleList):
    """Linear layers of `widths` (input, hidden ..., output) with an activation between them.

    `initialise` sets the weights of a layer in place, `initialise_last` those of the last where they differ.
    """

    def __init__(
        self,
        widths: list[int],
        activation: Activation,
        initialise: Initialiser,
        initialise_last: Initialiser | None = None,
    ) -> None:
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for linear in linears[:-1]:
            initialise(linear)
        (initialise_last or initialise)(linears[-1])
        super().__init__(linears)
        self.linears = tuple(linears)  # the same layers, faster to iterate over and with their type
        self._activation, self.activate_in_place = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs (..., output) for the inputs `x` (..., input)."""
        return self.after_first(self.linears[0](x))

    def after_first(self, hidden: Tensor) -> Tensor:
        """Compute the outputs (..., output) from the first layer's output (..., hidden) before its activation."""
        hidden = self._activation(hidden)
        for layer in self.linears[1:-1]:
            hidden = self._activation(functional.linear(hidden, layer.weight, layer.bias))
        last = self.linears[-1]
        return functional.linear(hidden, last.weight, last.bias)


def orthogonal(gain: float = math.sqrt(2)) -> Initialiser:
    """Return an initialiser with orthogonal weights of this `gain` and zero bias, which matter for PPO
    (Engstrom et al. 2020, arXiv 2005.12729)."""

    def initialise(layer: nn.Linear) -> None:
        nn.init.orthogonal_(layer.weight, gain=gain)
        nn.init.zeros_(layer.bias)

    return initialise


def lecun_uniform(layer: nn.Linear) -> None:
    """Initialise weights from U(-a, a) with a = sqrt(3 / inputs), which keeps the variance, and bias 0 (LeCun et al.
    1998, "Efficient BackProp", section 4.6)."""
    bound = math.sqrt(3 / layer.in_features)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
