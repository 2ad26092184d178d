"""The likelihood under a sampler's map: linear fields by hand, and networks against the noise that they began with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowrl.flow.density import log_density
from flowrl.flow.inversion import map_density
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.samplers import registry
from tests.flow.test_density import gaussian


def test_eulers_map_of_a_linear_field_is_a_gaussian_of_its_own_spread() -> None:
    """v = -x / 2 in two Euler steps is x · (3/4)², so actions are N(0, (9/16)²), not the N(0, e^{-1}) of the flow."""

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        return -x / 2

    actions = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64)
    density, noise, good = map_density(velocity, registry.make("euler", {"steps": 1}), actions, 2)
    torch.testing.assert_close(density, gaussian(actions, 0.0, 9 / 16))
    torch.testing.assert_close(noise, actions * 16 / 9)
    assert good.all()


@pytest.mark.parametrize(("name", "steps"), [("euler", 10), ("midpoint", 5), ("heun", 5), ("rk4", 3)])
def test_the_noise_of_a_networks_actions_is_found_again(name: str, steps: int) -> None:
    torch.manual_seed(0)
    network = FlowNetwork(4, 3, NetworkSettings(hidden=(32, 32), output_scale=3.0)).double().requires_grad_(False)
    obs, noise = torch.randn(64, 4, dtype=torch.float64), torch.randn(64, 3, dtype=torch.float64)
    velocity = network.bind(obs)
    actions = registry.make(name, {"steps": steps})(velocity, noise, 0.0, 1.0)
    with torch.enable_grad():
        unfolded = network.bind(obs)
    density, found, good = map_density(unfolded, registry.make(name, {"steps": 1}), actions, steps)
    assert good.all()
    torch.testing.assert_close(found, noise, rtol=0, atol=1e-7)
    error = (density - log_density(network, obs, actions, 60)).abs().mean()
    assert 1e-6 < float(error) < (0.1 if name == "euler" else 0.02)  # the sampler's map is not the flow's


def test_the_probability_of_all_actions_of_a_map_is_one() -> None:
    torch.manual_seed(1)
    network = FlowNetwork(1, 1, NetworkSettings(hidden=(16,), output_scale=2.0)).double().requires_grad_(False)
    actions = torch.linspace(-12, 12, 2001, dtype=torch.float64).unsqueeze(1)
    with torch.enable_grad():
        velocity = network.bind(torch.zeros(2001, 1, dtype=torch.float64))
    density, _, good = map_density(velocity, registry.make("euler", {"steps": 1}), actions, 6)
    assert good.all()
    assert float(torch.trapezoid(density.exp(), actions.squeeze(1))) == pytest.approx(1, abs=1e-3)


def test_a_map_that_folds_points_together_is_reported() -> None:
    """A step of x - tanh(9 x) / 9 · 9 has no inverse at all actions."""

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        return -x + 0.1 * torch.tanh(x)  # the step ends within ±0.1

    actions = torch.tensor([[0.05], [3.0]], dtype=torch.float64)
    density, _, good = map_density(velocity, registry.make("euler", {"steps": 1}), actions, 1)
    assert good.tolist() == [True, False]
    assert math.isfinite(float(density[0]))
