"""The multi-layer perceptron of all networks, its activations and its initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

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

    foldable = True  # whether the layers alone are the network, as an export and a fast evaluation need it

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


class ResidualMLP(MLP):
    """The same layers with residual connections and layer normalisation: h ← h + W a(norm(h)), and the last layer on
    norm(h); all hidden widths are equal (SimBa, arXiv 2410.09754: pre-normalised residual blocks for RL)."""

    foldable = False

    def __init__(self, widths: list[int], *settings: Any) -> None:
        super().__init__(widths, *settings)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])

    def after_first(self, hidden: Tensor) -> Tensor:
        """Compute the outputs (..., output) from the first layer's output (..., hidden)."""
        for layer, norm in zip(self.linears[1:-1], self.norms[:-1], strict=True):
            hidden = hidden + layer(self._activation(norm(hidden)))
        output: Tensor = self.linears[-1](self.norms[-1](hidden))
        return output


def kind_of_mlp(residual: bool) -> type[MLP]:
    """Return the class of the layers: with residual connections, or without."""
    return ResidualMLP if residual else MLP


def check_residual(hidden: tuple[int, ...], residual: bool) -> None:
    """Raise ValueError for hidden layers of several widths where their outputs are added up."""
    if residual and len(hidden) < 2:
        raise ValueError(
            f"residual needs at least two hidden layers, between which it acts: hidden is {list(hidden)}. Set hidden "
            f"to {list(hidden) * 2}, or residual to false"
        )
    if residual and len(set(hidden)) > 1:
        raise ValueError(
            f"residual adds up the outputs of the hidden layers, which must be equally wide: hidden is {list(hidden)}. "
            f"Set hidden to {[max(hidden)] * len(hidden)}, or residual to false"
        )


RESIDUAL = Field(
    False,
    description="Residual connections and layer normalisation between equally wide hidden layers (SimBa). Such a "
    "policy cannot be exported yet.",
)


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
