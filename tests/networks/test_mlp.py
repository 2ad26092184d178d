"""Initial weights, and the multi-layer perceptron by hand."""

from __future__ import annotations

import math

import pytest
import torch

from flowrl.networks.critic import Critic, CriticSettings
from flowrl.networks.gaussian import GaussianActor, GaussianSettings
from flowrl.networks.mlp import ACTIVATIONS, MLP, Activation, lecun_uniform, orthogonal


def test_lecuns_weights_keep_the_variance() -> None:
    """U(-a, a) with a = √(3 / inputs) has the variance a² / 3 = 1 / inputs."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(300, 200)
    lecun_uniform(layer)
    assert layer.weight.var().item() == pytest.approx(1 / 300, rel=0.02)
    assert layer.weight.abs().max().item() == pytest.approx(0.1, rel=1e-3) and layer.weight.abs().max() <= 0.1
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize(("gain", "norm"), [(None, math.sqrt(2)), (1.0, 1.0), (0.01, 0.01)])
def test_orthogonal_rows_have_the_norm_of_their_gain(gain: float | None, norm: float) -> None:
    layer = torch.nn.Linear(8, 4)
    (orthogonal() if gain is None else orthogonal(gain))(layer)
    torch.testing.assert_close(layer.weight @ layer.weight.T, norm**2 * torch.eye(4), atol=1e-5, rtol=1e-5)
    assert layer.bias.abs().max() == 0


def test_the_last_layer_begins_with_its_own_gain() -> None:
    """That of a Gaussian actor with 0.01, so that its first means are near 0, that of a critic with 1."""
    actor, critic = GaussianActor(5, 3, GaussianSettings()), Critic(5, CriticSettings())
    gains = [[layer.weight.norm(dim=1).mean().item() for layer in network.layers] for network in (actor, critic)]
    assert gains[0][-1] == pytest.approx(0.01, rel=1e-4) and gains[1][-1] == pytest.approx(1, rel=1e-4)
    for layers in gains:
        assert layers[1] == pytest.approx(math.sqrt(2), rel=1e-4)


def test_three_layers_by_hand() -> None:
    """relu(2 · 3 + 1) = 7, relu(-1 · 7 + 10) = 3, relu(4 · 3 - 20) = 0 → 5 · 0 + 0.5; with input -3: relu(-5) = 0."""
    network = MLP([1, 1, 1, 1, 1], "relu", lecun_uniform)
    with torch.no_grad():
        for layer, (weight, bias) in zip(network, ((2, 1), (-1, 10), (4, -20), (5, 0.5)), strict=True):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
        first = network.linears[0](torch.tensor([[3.0], [-3.0]]))
        # -3: relu(-5) = 0, relu(10) = 10, relu(20) = 20 → 100.5
        assert network.after_first(first).flatten().tolist() == [0.5, 100.5]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_in_place_is_the_activation(name: Activation) -> None:
    activate, in_place = ACTIVATIONS[name]
    x = torch.linspace(-3, 3, 13)
    changed = x.clone()
    in_place(changed)
    assert torch.equal(changed, activate(x)) and not torch.equal(changed, x)
