"""The likelihood under a continuous flow, against Gaussians on paper and against numbers of probability."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from flowrl.flow.density import log_density, velocity_and_jacobian
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from tests.flow.test_matching import GaussianField


def gaussian(a: Tensor, mu: float, sigma: float) -> Tensor:
    return (-0.5 * ((a - mu) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def test_the_density_of_the_exact_gaussian_flow_is_the_gaussian_to_order_two() -> None:
    actions = torch.linspace(-0.5, 2, 18, dtype=torch.float64).reshape(6, 3)
    field = GaussianField(0.7, 0.5)
    errors = [
        float((log_density(field, actions, actions, steps) - gaussian(actions, 0.7, 0.5)).abs().max())
        for steps in (16, 32, 64)
    ]
    assert errors[2] < 3e-4
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert all(1.8 < order < 2.4 for order in orders)


def test_the_jacobian_of_a_linear_field_is_its_matrix() -> None:
    matrix = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        return x @ matrix.T * t

    moved, jacobian = velocity_and_jacobian(velocity, torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]), 0.5)
    torch.testing.assert_close(moved[2], torch.tensor([3.0, -2.5]))
    torch.testing.assert_close(jacobian, (0.5 * matrix).expand(3, 2, 2))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_probability_of_all_actions_is_one(seed: int) -> None:
    torch.manual_seed(seed)
    network = FlowNetwork(2, 1, NetworkSettings(hidden=(16, 16), output_scale=3.0)).double()
    actions = torch.linspace(-15, 15, 3001, dtype=torch.float64).unsqueeze(1)
    obs = torch.randn(1, 2, dtype=torch.float64).expand(len(actions), 2)
    density = log_density(network, obs, actions, 40).exp()
    assert float(torch.trapezoid(density, actions.squeeze(1))) == pytest.approx(1, abs=2e-3)
    assert not density.detach().allclose(gaussian(actions, 0, 1).exp(), atol=0.05)  # the network has moved it


def test_the_gradient_of_the_density_is_that_of_differences() -> None:
    torch.manual_seed(3)
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8,), output_scale=1.0)).double()
    obs, actions = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)

    def total() -> Tensor:
        return log_density(network, obs, actions, 3).sum()

    total().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        flat, found = parameter.data.view(-1), parameter.grad.view(-1)
        at = int(found.abs().argmax())
        before = float(flat[at])
        with torch.no_grad():
            values = []
            for step in (1e-6, -1e-6):
                flat[at] = before + step
                values.append(float(total()))
            flat[at] = before
        assert float(found[at]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
