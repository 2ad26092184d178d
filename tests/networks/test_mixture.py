"""The flow to a mixture of Gaussians: what its velocity has to be, and where it carries noise."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from flowrl.flow.density import log_density
from flowrl.networks import gaussian
from flowrl.networks.gaussian import GaussianSettings, gaussian_velocity
from flowrl.networks.mixture import MixtureActor, mixture_velocity
from flowrl.networks.mixture_at_probes import VelocityAtProbes
from flowrl.networks.velocity import FlowNetwork, NetworkSettings, Parameterisation


def drawn(components: int, action: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means, standard deviations and logarithms of the weights of a mixture."""
    random = torch.Generator().manual_seed(3)
    means = 2 * torch.randn(components, action, generator=random, dtype=torch.float64)
    std = 0.2 + torch.rand(components, action, generator=random, dtype=torch.float64)
    return means, std, torch.randn(components, generator=random, dtype=torch.float64).log_softmax(-1)


def test_velocity_and_density_satisfy_the_continuity_equation() -> None:
    """∂p/∂t + ∇·(p v) = 0 for p(x, t) = Σ w N(x; t mean, t² std² + (1 - t)²), at 20 points of three times."""
    means, std, log_weights = drawn(3, 2)

    def density(x: Tensor, t: Tensor) -> Tensor:
        spread = (t * t * std.square() + (1 - t) ** 2).sqrt()
        of_components = gaussian.log_probability(x.unsqueeze(-2), t * means, spread)
        return (log_weights + of_components).logsumexp(dim=-1).exp()

    def current(x: Tensor, t: Tensor) -> Tensor:
        return density(x, t) * mixture_velocity(x, t, means, std, log_weights)

    for time in (0.1, 0.5, 0.95):
        t = torch.tensor(time, dtype=torch.float64)
        for x in torch.randn(20, 2, generator=torch.manual_seed(1), dtype=torch.float64) * 1.5:
            change = torch.func.grad(density, argnums=1)(x, t)
            divergence = torch.func.jacrev(current)(x, t).trace()
            torch.testing.assert_close(change, -divergence, rtol=1e-9, atol=1e-12)


def test_the_exact_ratios_density_is_that_of_the_mixture_to_order_two() -> None:
    """What `ratio: exact` integrates, against Σ w N on paper, in three dimensions; a hidden entry changes nothing."""
    torch.manual_seed(0)
    settings = NetworkSettings(hidden=(8,), base="mixture", components=3, output_scale=0)
    network = FlowNetwork(2, 3, settings, visible=torch.tensor([True, False])).double().requires_grad_(False)
    assert isinstance(network.base, MixtureActor)
    torch.nn.init.normal_(network.base.layers.linears[-1].weight)
    obs, actions = torch.randn(20, 2, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    means, std, log_weights = network.base(obs)
    exact = (log_weights + gaussian.log_probability(actions.unsqueeze(-2), means, std)).logsumexp(dim=-1)
    errors = [float((log_density(network, obs, actions, steps) - exact).abs().max()) for steps in (32, 64, 128)]
    assert errors[2] < 2e-3
    assert all(1.8 < math.log2(coarse / fine) < 2.4 for coarse, fine in pairwise(errors))
    obs[:, 1] = 1e6
    assert float((log_density(network, obs, actions, 128) - exact).abs().max()) == errors[2]


def test_at_probes_velocity_and_gradients_are_those_of_the_formula() -> None:
    """In float64 against automatic differentiation, and, by `gradcheck`, against differences of the velocity."""
    random = torch.Generator().manual_seed(0)
    shapes = {"x": (5, 7, 2), "means": (5, 1, 3, 2), "weights": (5, 1, 3), "g": (5, 7, 2)}
    x, means, logits, g = (torch.randn(each, generator=random, dtype=torch.float64) for each in shapes.values())
    t = torch.rand(5, 7, 1, generator=random, dtype=torch.float64)
    mixture = [each.requires_grad_() for each in (means, drawn(3, 2)[1], logits.log_softmax(-1))]

    def at_probes(*mixture: Tensor) -> Tensor:
        velocities: Tensor = VelocityAtProbes.apply(x, t, *mixture)  # type: ignore[no-untyped-call]
        return velocities

    means, std, log_weights = mixture
    found, expected = at_probes(*mixture), mixture_velocity(x, t, means, std, log_weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(each, mixture, g) for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)
    assert torch.autograd.gradcheck(at_probes, mixture)


def test_training_takes_the_written_gradients_and_a_point_with_a_gradient_the_formula() -> None:
    torch.manual_seed(0)
    actor = MixtureActor(3, 2, 4, GaussianSettings(hidden=(4,)))
    velocity = actor.bind(torch.randn(6, 1, 3))
    x, t = torch.randn(6, 5, 2), torch.rand(6, 5, 1)
    found = velocity(x, t)
    assert found.grad_fn is not None and found.grad_fn.name() == "VelocityAtProbesBackward"
    through = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(velocity(through, t).sum(), through)
    assert gradient.abs().min() > 0
    torch.testing.assert_close(found, velocity(through, t))


def test_equal_components_are_the_flow_to_one_gaussian() -> None:
    torch.manual_seed(0)
    means, std, _ = drawn(1, 3)
    x, t = torch.randn(9, 3, dtype=torch.float64), torch.rand(9, 1, dtype=torch.float64)
    twice = [each.expand(2, 3) for each in (means, std)]
    found = mixture_velocity(x, t, *twice, torch.tensor([0.3, 0.7], dtype=torch.float64).log())
    torch.testing.assert_close(found, gaussian_velocity(x, t, means[0], std[0]), rtol=1e-12, atol=1e-12)


def test_the_inverse_std_is_that_of_the_component_that_made_the_action() -> None:
    """Means ±1, std 0.5 and 0.25, weights 1/4 and 3/4; at 0 the densities are as e^-2 / 0.5 to e^-8 / 0.25."""
    actor = MixtureActor(1, 1, 2, GaussianSettings(hidden=(4,)))
    with torch.no_grad():
        actor.layers.linears[-1].weight.zero_()
        actor.layers.linears[-1].bias.copy_(torch.tensor([0.0, 0.0, math.log(0.25), math.log(0.75)]))
        actor.centres.copy_(torch.tensor([[-1.0], [1.0]]))
        actor.spread.copy_(torch.tensor([[gaussian.to_spread(0.5)], [gaussian.to_spread(0.25)]]))
    first, second = 0.25 * math.exp(-2) / 0.5, 0.75 * math.exp(-8) / 0.25
    between = (2 * first + 4 * second) / (first + second)
    actions = torch.tensor([[-1.0], [1.0], [0.0]])
    found = actor.inverse_std(torch.zeros(3, 1), actions).flatten().tolist()
    assert found == pytest.approx([2, 4, between], rel=2e-3)
    assert found[2] == pytest.approx(between, rel=1e-5)


def test_one_euler_step_ends_at_the_mean_of_the_actions_from_any_noise() -> None:
    means, std, log_weights = drawn(3, 2)
    noise = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (log_weights.exp().unsqueeze(-1) * means).sum(dim=0)
    ends = noise + mixture_velocity(noise, 0.0, means, std, log_weights)
    torch.testing.assert_close(ends, expected.expand(9, 2), rtol=1e-12, atol=1e-12)


def test_in_one_dimension_every_point_keeps_its_quantile() -> None:
    """Paths of a flow in one dimension cannot cross, so noise with Φ(noise) = q ends where the mixture's CDF is q."""
    torch.manual_seed(0)
    network = FlowNetwork(2, 1, NetworkSettings(hidden=(8,), base="mixture", components=3, output_scale=0)).double()
    assert isinstance(network.base, MixtureActor)
    torch.nn.init.normal_(network.base.layers.linears[-1].weight)
    torch.nn.init.normal_(network.base.centres, std=2)
    obs = torch.randn(1, 2).double().expand(41, 2)
    noise = torch.linspace(-3, 3, 41).double().unsqueeze(-1)
    means, std, log_weights = network.base(obs)
    velocity, x, steps = network.bind(obs), noise, 200
    for number in range(steps):  # RK4
        t, h = number / steps, 1 / steps
        k1 = velocity(x, t)
        k2 = velocity(x + h / 2 * k1, t + h / 2)
        k3 = velocity(x + h / 2 * k2, t + h / 2)
        k4 = velocity(x + h * k3, t + h)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    reached = (log_weights.exp() * Normal(means, std).cdf(x.unsqueeze(-2)).squeeze(-1)).sum(dim=-1)
    torch.testing.assert_close(reached, Normal(0, 1).cdf(noise).squeeze(-1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("components", [2, 16])
def test_the_first_actions_have_mean_0_and_variance_near_1(components: int) -> None:
    torch.manual_seed(0)
    actor = MixtureActor(5, 64, components, GaussianSettings())
    means, std, log_weights = actor(torch.zeros(1, 5))
    weights = log_weights.exp().unsqueeze(-1)
    mean = (weights * means).sum(dim=-2)
    variance = (weights * (std.square() + means.square())).sum(dim=-2) - mean.square()
    assert mean.abs().max() < 0.05
    assert variance.mean().item() == pytest.approx(1 - 0.25 / components, abs=0.05)
    assert len({tuple(row) for row in means[0].tolist()}) == components  # equal ones would stay equal


def test_every_weight_of_a_mixture_is_trained_and_none_of_the_network_that_is_off() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(5, 3, NetworkSettings(hidden=(16,), base="mixture", output_scale=0))
    network.bind(torch.randn(7, 5))(torch.randn(7, 3), torch.rand(7, 1)).square().sum().backward()
    moved = {name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved == {name for name, _ in network.named_parameters() if name.startswith("base.")}


def test_no_training_takes_a_component_below_smallest_std() -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(hidden=(16,), base="mixture", output_scale=0, smallest_std=0.3)
    network = FlowNetwork(5, 3, settings)
    assert isinstance(network.base, MixtureActor)
    torch.testing.assert_close(network.base.std(), torch.full((4, 3), math.sqrt(0.75)), rtol=1e-6, atol=0)
    with torch.no_grad():
        network.base.spread.fill_(-50.0)
        obs, x = torch.randn(7, 5), torch.randn(7, 3)
        means, std, log_weights = network.base(obs)
        torch.testing.assert_close(std, torch.full((4, 3), 0.3), rtol=1e-6, atol=0)
        expected = mixture_velocity(x, 0.6, means, torch.full((4, 3), 0.3), log_weights)
        torch.testing.assert_close(network.bind(obs)(x, 0.6), expected, rtol=1e-5, atol=1e-5)


def test_a_smallest_std_without_a_base_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest_std is of a base, and base is none"):
        NetworkSettings(smallest_std=0.3)


@pytest.mark.parametrize("parameterisation", ["eps", "data"])
def test_a_mixture_is_a_velocity(parameterisation: Parameterisation) -> None:
    with pytest.raises(ValueError, match="base mixture is a velocity"):
        NetworkSettings(base="mixture", parameterisation=parameterisation)


def test_components_without_a_mixture_are_refused() -> None:
    with pytest.raises(ValueError, match="components is of base mixture, and base is normal"):
        NetworkSettings(base="normal", components=3)


def test_probes_and_times_broadcast() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(5, 3, NetworkSettings(hidden=(16,), base="mixture", output_scale=0))
    obs, x, t = torch.randn(7, 5), torch.randn(7, 4, 3), torch.rand(7, 4, 1)
    together = network.bind(obs[:, None])(x, t)
    assert together.shape == (7, 4, 3)
    for probe in range(4):
        torch.testing.assert_close(network.bind(obs)(x[:, probe], t[:, probe]), together[:, probe])
    torch.testing.assert_close(network.bind(obs)(x[:, 0], 0.3), network.bind(obs)(x[:, 0], torch.full((7, 1), 0.3)))


def test_the_leading_axes_of_all_arguments_broadcast() -> None:
    means, std, _ = drawn(3, 2)
    x, t = torch.randn(7, 2, dtype=torch.float64), torch.rand(5, 7, 1, dtype=torch.float64)
    weights = torch.randn(4, 1, 1, 3, dtype=torch.float64).log_softmax(-1)
    together = mixture_velocity(x, t, means, std, weights)
    assert together.shape == (4, 5, 7, 2)
    for number in range(4):
        for at in range(5):
            one = mixture_velocity(x, t[at], means, std, weights[number, 0])
            torch.testing.assert_close(together[number, at], one, rtol=1e-12, atol=1e-12)


def test_without_gradients_the_velocity_is_the_same_and_follows_every_change_of_the_spread() -> None:
    """A fused optimiser does not count its changes of a weight, the others do: no kept time may outlive either."""
    torch.manual_seed(0)
    network = FlowNetwork(5, 3, NetworkSettings(hidden=(16,), base="mixture", output_scale=0)).double()
    assert isinstance(network.base, MixtureActor)
    obs, x = torch.randn(7, 5).double(), torch.randn(7, 3).double()

    def check() -> None:
        with torch.no_grad():
            assert network.base is not None
            for t in (0.0, 0.3, 0.9):
                expected = mixture_velocity(x, t, *network.base(obs))
                torch.testing.assert_close(network.bind(obs)(x, t), expected, rtol=1e-12, atol=1e-12)

    check()
    optimizer = torch.optim.AdamW(network.base.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        network.bind(obs)(x, torch.rand(7, 1).double()).square().sum().backward()
        optimizer.step()
        check()
    with torch.no_grad():
        network.base.spread += 1.0
    check()
    state = network.state_dict()
    state["base.spread"] = state["base.spread"] - 2.0
    network.load_state_dict(state)
    check()
