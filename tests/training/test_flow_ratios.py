"""Ratios of flows: closed forms, first ratios of exactly 1, probes in pairs, coloured noise."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.contracts.protocols import Velocity
from flowrl.experiments.build import Run
from flowrl.flow.matching import LossSettings, Probes, ProbeSettings, cfm_loss, draw_probes
from flowrl.networks.gaussian import GaussianActor, to_spread
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.policies.noise import Noise
from flowrl.storage import checkpoint
from flowrl.training.flow_ratios import ExactRatio, TailRatio
from flowrl.training.ratio import CFMRatio, LikelihoodRatio, RatioEstimator, averaged
from tests.flow.test_density import gaussian
from tests.flow.test_matching import GaussianField
from tests.training.test_learner import config, learner, rollout

SIGMA = 0.3
TAIL = ("learner.ratio=tail", f"policy.perturbation={SIGMA}")


class Constant:
    """The straight flow whose velocity is `velocity` (action,) everywhere: its end is noise + velocity."""

    def __init__(self, velocity: Tensor) -> None:
        self.velocity = velocity

    def bind(self, obs: Tensor) -> Velocity:
        return lambda x, t: self.velocity.expand_as(x)


def perturbed() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Noise, end, action (each (5, 2)) of a constant flow, its velocity (2,), and a change of the velocity (2,)."""
    velocity, change = torch.tensor([0.5, -1.0]), torch.tensor([0.2, 0.3])
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    end = noise + velocity
    return noise, end, end + SIGMA * torch.tensor([[1.0, -0.5]]), velocity, change


def likelihood_ratio(actions: Tensor, end: Tensor, change: Tensor) -> Tensor:
    """log N(a; m + change, σ²) - log N(a; m, σ²), (5,)."""
    return gaussian(actions - end - change, 0, SIGMA) - gaussian(actions - end, 0, SIGMA)


def test_the_tail_ratio_of_a_straight_flow_is_the_likelihood_ratio_of_its_perturbation() -> None:
    noise, end, actions, velocity, change = perturbed()
    actor: Any = Constant(velocity)
    ratio = TailRatio(actor, ProbeSettings(count=3), SIGMA)
    obs, everything = torch.zeros(5, 1), [torch.arange(5)]
    record = ratio.record(obs, actions, {"noise": noise, "end": end}, everything, torch.Generator().manual_seed(1))
    actor.velocity = velocity + change
    found = ratio.compare(obs, actions, record, torch.zeros(5))
    torch.testing.assert_close(found.log_ratio.squeeze(1), likelihood_ratio(actions, end, change))
    assert float(found.metrics["kl"]) == pytest.approx(float(change.square().sum()) / (2 * SIGMA**2), rel=1e-5)


def test_a_coupled_probe_of_a_straight_flow_gives_the_likelihood_ratio_of_the_perturbation() -> None:
    """Old loss - new loss = |a - m|² - |a - m - δ|² = 2 σ² log r, at every time."""
    noise, end, actions, velocity, change = perturbed()
    actor: Any = Constant(velocity)
    ratio = CFMRatio(actor, ProbeSettings(count=1, coupled=True), LossSettings(reduction="sum"), averaged)
    assert ratio.generation == ("noise",)
    obs, everything = torch.zeros(5, 1), [torch.arange(5)]
    record = ratio.record(obs, actions, {"noise": noise}, everything, torch.Generator().manual_seed(1))
    actor.velocity = velocity + change
    found = ratio.compare(obs, actions, record, torch.zeros(5)).log_ratio.squeeze(1) / (2 * SIGMA**2)
    torch.testing.assert_close(found, likelihood_ratio(actions, end, change), rtol=1e-4, atol=1e-5)


def test_the_coupled_noise_is_that_of_one_probe_and_of_its_pair() -> None:
    own = torch.full((3, 2), 9.0)
    settings = ProbeSettings(count=4, antithetic="pair")
    drawn = draw_probes(3, 2, settings, torch.Generator().manual_seed(0))
    coupled = drawn.coupled(own, settings)
    assert torch.equal(coupled.noise[:, 0], own) and torch.equal(coupled.noise[:, 2], -own)
    assert torch.equal(coupled.noise[:, 1], drawn.noise[:, 1]) and torch.equal(coupled.times, drawn.times)
    alone = drawn.coupled(own, ProbeSettings(count=4))
    assert torch.equal(alone.noise[:, 1:], drawn.noise[:, 1:])


def test_the_exact_ratio_of_gaussian_flows_is_that_of_the_gaussians() -> None:
    actions = torch.linspace(-0.5, 1.5, 12, dtype=torch.float64).reshape(6, 2)
    actor: Any = GaussianField(0.2, 0.9)
    ratio = ExactRatio(actor, steps=60)
    obs = torch.zeros(6, 1, dtype=torch.float64)
    record = ratio.record(obs, actions, {}, [torch.arange(6)], torch.Generator())
    actor.mu, actor.sigma = 0.5, 0.8
    expected = gaussian(actions, 0.5, 0.8) - gaussian(actions, 0.2, 0.9)
    torch.testing.assert_close(
        ratio.compare(obs, actions, record, torch.zeros(6)).log_ratio.squeeze(1), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("std", [1.0, 0.1])
def test_by_std_the_ratio_of_a_flow_to_a_gaussian_pulls_its_mean_as_ppo_does(std: float) -> None:
    """The gradient of the first log-ratios, weighted by advantages, for the mean's network, over 10,000 probes each."""
    torch.manual_seed(0)
    flow = FlowNetwork(2, 2, NetworkSettings(hidden=(8,), base="normal", output_scale=0))
    actor = flow.base
    assert isinstance(actor, GaussianActor)
    torch.nn.init.constant_(actor.spread, to_spread(std))
    obs, advantage = torch.randn(30, 2), torch.randn(30)
    actions = (actor(obs)[0] + std * torch.randn(30, 2)).detach()

    def gradient(ratio: RatioEstimator) -> Tensor:
        record = ratio.record(obs, actions, {}, [torch.arange(30)], torch.Generator().manual_seed(1))
        weighted = ratio.compare(obs, actions, record, advantage).log_ratio.squeeze(1) * advantage
        return torch.cat([each.flatten() for each in torch.autograd.grad(weighted.mean(), actor.layers.parameters())])

    probes = ProbeSettings(count=10_000, law="stratified")
    found = gradient(CFMRatio(flow, probes, LossSettings(reduction="by_std"), averaged))
    exact = gradient(LikelihoodRatio(actor))
    assert float((found - exact).norm() / exact.norm()) < 0.04
    by_mean = gradient(CFMRatio(flow, probes, LossSettings(reduction="mean"), averaged))
    slope = float(by_mean @ exact / exact.square().sum())
    assert slope == pytest.approx(math.pi / 2 * std / 2, rel=0.05)  # of two numbers


@pytest.mark.parametrize(
    "changes",
    [
        TAIL,
        ("learner.ratio=exact",),
        ("learner.probes.coupled=true", "learner.anchor=0.1"),
        ("learner.probes.antithetic=mirrored", "learner.probes.law=log_odds"),
    ],
)
def test_the_first_ratio_is_exactly_one_and_later_ones_are_not(changes: tuple[str, ...]) -> None:
    def data(seed: int) -> Any:
        found = rollout(seed)
        draws = torch.Generator().manual_seed(seed)
        given = {name: torch.randn(found.actions.shape, generator=draws) for name in ("noise", "end")}
        return replace(found, generation=given)

    one = learner(config("fpo", "learner.epochs=1", "learner.minibatches=1", "learner.microbatch=50", *changes))
    for seed in range(2):
        metrics = one.update(data(seed))
        assert metrics["ratio_min"] == metrics["ratio_max"] == 1.0
    several = learner(config("fpo", "learner.epochs=2", "learner.minibatches=2", *changes))
    assert several.update(data(4))["ratio_max"] != 1.0


def test_the_anchor_adds_its_share_of_the_mean_loss() -> None:
    actor: Any = Constant(torch.tensor([0.5, -1.0]))
    _, _, actions, _, _ = perturbed()
    probes = ProbeSettings(count=3)
    plain, anchored = (CFMRatio(actor, probes, LossSettings(), averaged, anchor=anchor) for anchor in (0.0, 0.25))
    record = anchored.record(torch.zeros(5, 1), actions, {}, [torch.arange(5)], torch.Generator().manual_seed(2))
    found = anchored.compare(torch.zeros(5, 1), actions, record, torch.zeros(5))
    assert found.penalty is not None
    assert float(found.penalty) == pytest.approx(0.25 * float(record["loss"].mean()))
    assert plain.compare(torch.zeros(5, 1), actions, record, torch.zeros(5)).penalty is None


# ----------------------------------------------------------------------------------------------- probes


def test_the_noise_of_a_pair_cancels_where_the_losses_differ_by_a_linear_function_of_it() -> None:
    """|c - a + ε|² - |c' - a + ε|² = |c - a|² - |c' - a|² + 2 (c - c')·ε for constant fields."""
    old, new, actions = torch.tensor([0.5, -1.0]), torch.tensor([0.7, -0.9]), torch.zeros(100, 2)
    expected = float(old.square().sum() - new.square().sum()) / 2

    def log_ratio(antithetic: str) -> Tensor:
        settings = ProbeSettings(count=4, antithetic=antithetic)  # type: ignore[arg-type]
        probes = draw_probes(100, 2, settings, torch.Generator().manual_seed(0))
        losses = [cfm_loss(Constant(c), torch.zeros(100, 1), actions, probes, LossSettings()) for c in (old, new)]
        return averaged(*losses).squeeze(1)

    assert log_ratio("no").std() > 0.05
    for antithetic in ("pair", "mirrored"):
        torch.testing.assert_close(log_ratio(antithetic), torch.full((100,), expected), rtol=0, atol=1e-5)


def test_pairs_have_opposite_noise_at_equal_or_mirrored_times_of_the_whole_law() -> None:
    def drawn(antithetic: str, law: str, count: int = 6) -> Probes:
        settings = ProbeSettings(count=count, antithetic=antithetic, law=law)  # type: ignore[arg-type]
        return draw_probes(2000, 1, settings, torch.Generator().manual_seed(0))

    for antithetic in ("pair", "mirrored"):
        probes = drawn(antithetic, "stratified")
        assert torch.equal(probes.noise[:, :3], -probes.noise[:, 3:])
    assert torch.equal(drawn("pair", "stratified").times[:, :3], drawn("pair", "stratified").times[:, 3:])
    strata = (drawn("pair", "stratified").times[:, :3, 0] * 3).floor()
    assert torch.equal(strata, torch.arange(3.0).expand(2000, 3))
    mirrored = drawn("mirrored", "stratified").times
    torch.testing.assert_close(mirrored[:, :3] + mirrored[:, 3:], torch.ones(2000, 3, 1))
    assert torch.equal((mirrored[..., 0] * 6).floor().sort(dim=1).values, torch.arange(6.0).expand(2000, 6))
    assert drawn("mirrored", "uniform").times.mean() == pytest.approx(0.5, abs=1e-6)


def test_log_odds_are_uniform() -> None:
    times = draw_probes(20_000, 1, ProbeSettings(count=4, law="log_odds", odds=3.0), torch.Generator().manual_seed(0))
    odds = torch.logit(times.times.flatten().double())
    assert odds.abs().max() <= 3 + 1e-4
    assert odds.mean() == pytest.approx(0, abs=0.02)
    assert odds.std() == pytest.approx(6 / math.sqrt(12), abs=0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("learner.ratio=tail",), "learner.ratio tail compares likelihoods of the perturbation"),
        ((*TAIL, "policy.action_limit=1"), "policy.action_limit to null"),
        (("learner.ratio=exact", "policy.parameterisation=data"), "learner.ratio exact needs a velocity up to t = 1"),
        ((*TAIL, "learner.anchor=1"), "learner.anchor is for CFM losses"),
        (("learner.ratio=exact", "learner.probes.coupled=true"), "learner.probes.coupled is for CFM losses"),
        (
            (*TAIL, "learner.loss.reduction=sum"),
            "learner.loss.reduction is for CFM losses, .* set it to mean, which is its default",
        ),
        (("learner.ratio=exact", "learner.loss_limit=20"), "learner.loss_limit is for CFM losses"),
        (("learner.loss.reduction=by_std",), "policy.base is none: set policy.base to mixture or normal"),
        (
            ("policy.base=normal", "learner.loss.reduction=by_std", "learner.probes.law=log_odds"),
            "by_std is the unit of likelihoods for uniform times, and learner.probes.law is log_odds",
        ),
        (
            ("policy.base=normal", "learner.loss={reduction: by_std, weighting: eps}"),
            "reduction by_std is the unit of likelihoods for weighting u, and weighting is eps",
        ),
        (("learner.probes.antithetic=pair", "learner.probes.count=3"), "an even number of probes: count is 3"),
        (("learner.probes.antithetic=mirrored", "learner.probes.law=lognormal"), "the same backwards in time"),
    ],
)
def test_what_does_not_fit_is_refused(changes: tuple[str, ...], said: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=said):
        config("fpo", *changes)


# ---------------------------------------------------------------------------------------- coloured noise


def test_correlated_noise_is_normal_with_its_correlation_and_begins_again_with_an_episode() -> None:
    noise = Noise(3, "random", 0, correlation=0.8)
    draws = torch.stack([noise(500) for _ in range(200)])  # (time, envs, action)
    assert draws.var() == pytest.approx(1, abs=0.02)
    lag = float((draws[1:] * draws[:-1]).mean())
    assert lag == pytest.approx(0.8, abs=0.01)
    ended = torch.arange(500) < 250
    noise.restart(ended)
    after = noise(500) * draws[-1]
    assert float(after[ended].mean()) == pytest.approx(0, abs=0.1)
    assert float(after[~ended].mean()) == pytest.approx(0.8 * float(draws[-1][~ended].square().mean()), abs=0.1)
    assert torch.equal(Noise(3, "random", 0)(5), Noise(3, "random", 0, correlation=0.8)(5))  # the first draws


@pytest.mark.parametrize("algorithm", ["fpo", "ppo"])
def test_a_run_with_correlated_noise_continues_bit_for_bit(algorithm: str, tmp_path: Path) -> None:
    values = ("env.id=flowrl/GridWorld-v0", "env.count=4", "rollout.steps=8", "rollout.noise_correlation=0.7")
    settings = config(algorithm, *values, "policy.hidden=[8]", "learner.critic.hidden=[8]")
    run = Run(settings)
    run.start()
    run.training.iterate()
    saved = copy.deepcopy(run.content(0))
    assert saved["shards"][0]["last_noise"].shape == (4, 2)
    checkpoint.save(tmp_path / "ckpt.pt", saved)
    cut = saved["shards"][0] | {"last_noise": saved["shards"][0]["last_noise"][:3]}
    with pytest.raises(ValueError, match=r"shards\.0\.last_noise has the shape \(3, 2\): expected \(4, 2\)"):
        checkpoint.save(tmp_path / "wrong.pt", saved | {"shards": [cut]})
    run.training.iterate()
    other = Run(settings)
    assert other.restore(saved) == ""
    other.training.iterate()
    for name, value in run.training.learner.actor.state_dict().items():
        assert torch.equal(value, other.training.learner.actor.state_dict()[name])
