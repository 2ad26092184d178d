"""Noise of a policy, and the policies' observations and spread."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.contracts.protocols import Velocity
from flowrl.networks.gaussian import GaussianActor, GaussianSettings
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.gaussian import GaussianPolicy
from flowrl.policies.noise import Noise
from flowrl.policies.noise_modes import label
from flowrl_samplers.euler import Euler


def test_zero_noise_is_zero() -> None:
    assert torch.equal(Noise(3, "zero", 0)(4), torch.zeros(4, 3))


def test_fixed_noise_is_one_draw_for_every_row_and_call() -> None:
    fixed = Noise(3, "fixed", 0)
    first = fixed(4)
    assert torch.equal(first, first[:1].expand(4, 3)) and first.abs().min() > 0
    assert torch.equal(fixed(2), first[:2])
    assert not torch.equal(Noise(3, "fixed", 1)(4), first)


def test_random_noise_is_that_of_its_seed_whatever_the_global_generator_does() -> None:
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        noise = Noise(3, "random", 7)
        draws.append((noise(4), noise(4)))
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[0][1])
    state = noise.generator.get_state()
    torch.randn(5)
    assert torch.equal(state, noise.generator.get_state())


def test_a_scale_multiplies_the_same_draws() -> None:
    for mode in ("random", "fixed"):
        full, half = Noise(3, mode, 7), Noise(3, mode, 7, 0.5)  # type: ignore[arg-type]
        for count in (4, 2):
            assert torch.equal(half(count), 0.5 * full(count))
        assert torch.equal(Noise(3, mode, 7, 1.0)(4), Noise(3, mode, 7)(4))  # type: ignore[arg-type]


def test_scale_zero_is_zero_noise_bit_for_bit() -> None:
    """Without a -0, of which a flow could make another bit."""
    nothing = Noise(3, "random", 7, 0.0)
    assert nothing.mode == "zero"
    assert torch.equal(nothing(4).view(torch.int32), torch.zeros(4, 3).view(torch.int32))


def test_noise_is_named_after_mode_and_scale() -> None:
    names = [label(mode, scale) for mode in ("random", "zero", "fixed") for scale in (0, 0.25, 1)]  # type: ignore[arg-type]
    assert names == ["zero", "0.25 random", "random", *["zero"] * 4, "0.25 fixed", "fixed"]


def normaliser() -> Normaliser:
    """One that has seen observations of mean 50 and standard deviation 10."""
    one = Normaliser(2)
    one.update(torch.tensor([[40.0, 40.0], [60.0, 60.0]]))
    return one


class Shown:
    """A field whose velocity is the first number of the observation."""

    def bind(self, obs: Tensor) -> Velocity:
        return lambda x, t: obs[:, :1].expand_as(x)


def test_networks_see_normalised_observations() -> None:
    """70 is two standard deviations above the mean: Euler's step from zero noise ends there."""
    obs = torch.tensor([[70.0, 50.0]])
    flow = FlowPolicy(Shown(), normaliser(), Noise(1, "zero", 0), FlowPolicySettings(), Euler(1), False)
    torch.testing.assert_close(flow(obs), torch.tensor([[2.0]]), atol=1e-4, rtol=0)
    actor = GaussianActor(2, 1, GaussianSettings())
    policy = GaussianPolicy(actor, normaliser(), Noise(1, "zero", 0))
    with torch.no_grad():
        torch.testing.assert_close(policy(obs), actor(torch.tensor([[2.0, 0.0]]))[0], atol=1e-6, rtol=1e-4)


def test_a_gaussian_policy_adds_its_spread_times_the_noise() -> None:
    actor = GaussianActor(2, 1, GaussianSettings(initial_std=0.3))
    plain = Normaliser(2, enabled=False)
    obs = torch.randn(6, 2)
    mean = GaussianPolicy(actor, plain, Noise(1, "zero", 0))(obs)
    actions = GaussianPolicy(actor, plain, Noise(1, "random", 5))(obs)
    torch.testing.assert_close(actions, mean + 0.3 * Noise(1, "random", 5)(6), atol=1e-6, rtol=0)
    half = GaussianPolicy(actor, plain, Noise(1, "random", 5, 0.5))(obs)
    torch.testing.assert_close(half, mean + 0.15 * Noise(1, "random", 5)(6), atol=1e-6, rtol=0)
