"""The flow policy: what a new one acts with, and where the samplers end, for every parameterisation and sampler."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowrl.contracts.errors import Stopped, UsageError
from flowrl.contracts.protocols import Sampler, Velocity
from flowrl.experiments.build import load_config, load_policy
from flowrl.flow.last_step import StraightLastStep, for_field
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import Base, FlowNetwork, NetworkSettings, to_velocity
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.noise import Noise
from flowrl.storage import checkpoint
from flowrl_samplers.ab2 import AB2
from flowrl_samplers.dopri5 import Dopri5
from flowrl_samplers.euler import Euler
from flowrl_samplers.heun import Heun
from flowrl_samplers.midpoint import Midpoint
from flowrl_samplers.ralston import Ralston
from flowrl_samplers.rk4 import RK4
from tests.tape import Tape

SAMPLERS: dict[str, Sampler] = {
    "euler:1": Euler(1),
    "euler:10": Euler(10),
    "euler:100": Euler(100),
    "ab2:10": AB2(10),
    "midpoint:5": Midpoint(5),
    "ralston:5": Ralston(5),
    "heun:1": Heun(1),
    "heun:5": Heun(5),
    "rk4:4": RK4(4),
    "dopri5": Dopri5(),
}
DATA = Path(__file__).parents[1] / "data" / "checkpoints"
every_sampler = pytest.mark.parametrize("name", SAMPLERS)
ROWS, SIZE = 256, 6


def policy(sampler: Sampler, field: object, size: int = 1, **settings: object) -> FlowPolicy:
    """A policy with random noise that is not normalised."""
    plain = FlowPolicySettings(**settings)  # type: ignore[arg-type]
    return FlowPolicy(field, Normaliser(1, enabled=False), Noise(size, "random", 0), plain, sampler, False)  # type: ignore[arg-type]


# --- the first actions


def first_actions(sampler: Sampler, parameterisation: str, seed: int) -> Tensor:
    torch.manual_seed(seed)
    network = FlowNetwork(17, SIZE, NetworkSettings(parameterisation=parameterisation))  # type: ignore[arg-type]
    return policy(sampler, network, SIZE)(torch.randn(ROWS, 17))


@every_sampler
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("parameterisation", "least", "most"),  # as docs/configuration.md says
    [("u", 0.97, 1.03), ("eps", 0.97, 1.25), ("data", 0.03, 0.15)],
)
def test_spread_of_the_first_raw_actions(
    name: str, seed: int, parameterisation: str, least: float, most: float
) -> None:
    if (name, parameterisation) == ("euler:1", "eps"):
        most = 5.0  # see the test by hand below: one step from t = 0, where the output is divided by 0.02
    if (name, parameterisation) == ("heun:1", "eps"):
        most = 2.6  # half of the same
    assert least < first_actions(SAMPLERS[name], parameterisation, seed).std() < most


class ConstantOutput:
    """A field whose network gives the same output for every point: 0 is that of a network of no output."""

    def __init__(self, parameterisation: str, output: float = 0.0) -> None:
        self.parameterisation, self.output = parameterisation, output
        self.latest_time = FlowNetwork(1, 1, NetworkSettings(parameterisation=parameterisation)).latest_time  # type: ignore[arg-type]

    def bind(self, obs: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            return to_velocity(torch.full_like(x, self.output), x, t, self.parameterisation)  # type: ignore[arg-type]

        return velocity


@every_sampler
def test_without_any_output_the_first_actions_are_the_noise_or_zero(name: str) -> None:
    """u and eps have the velocity 0; data has (0 - x) / (1 - t), along which every method goes straight to 0."""
    noise = Noise(1, "random", 0)(8)
    obs = torch.zeros(8, 1)
    for parameterisation in ("u", "eps"):
        assert torch.equal(policy(SAMPLERS[name], ConstantOutput(parameterisation))(obs), noise)
    landed = policy(SAMPLERS[name], ConstantOutput("data"))(obs)
    torch.testing.assert_close(landed, torch.zeros(8, 1), rtol=0, atol=2e-6)


def test_how_far_an_output_moves_the_first_actions_by_hand() -> None:
    """Euler 10 with the output c. u: c. eps: -c Σ 0.1 / max(k / 10, 0.02) = -c (5 + 1 + 1/2 + … + 1/9). data: c."""
    noise, obs = Noise(1, "random", 0)(4), torch.zeros(4, 1)
    moved = {"u": noise + 0.1, "eps": noise - 0.1 * (5 + sum(1 / k for k in range(1, 10))), "data": noise * 0 + 0.1}
    for parameterisation, expected in moved.items():
        actions = policy(Euler(10), ConstantOutput(parameterisation, 0.1))(obs)
        torch.testing.assert_close(actions, expected, rtol=0, atol=2e-6)


# --- the closed form: an action that is predicted exactly


class GaussianPrediction:
    """The exact prediction of the action, for actions from N(mu, sigma²): the mean of a, given x = t a + (1 - t) noise,
    is mu + t sigma² (x - t mu) / s², s² = t² sigma² + (1 - t)², and a perfect `data` network gives it."""

    latest_time = 0.98

    def __init__(self, mu: float, sigma: float) -> None:
        self.mu, self.sigma = mu, sigma

    def bind(self, obs: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            variance = t * t * self.sigma**2 + (1 - t) ** 2
            predicted = self.mu + t * self.sigma**2 / variance * (x - t * self.mu)
            return to_velocity(predicted, x, t, "data")

        return velocity


def mean_and_std(sampler: Sampler, mu: float, sigma: float) -> tuple[float, float]:
    """Of the actions: the flow is linear in the noise, so that noise 0 ends in the mean, and 1 a std above it."""
    flow = policy(sampler, GaussianPrediction(mu, sigma))
    flow.noise = lambda count: torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # type: ignore[assignment]
    at_0, at_1 = flow(torch.zeros(2, 1)).flatten().tolist()
    return at_0, at_1 - at_0


def exact_std(sigma: float) -> float:
    """The exact flow is t mu + s(t) noise; from t = 0.98 the prediction is 0.98 sigma² / s² times the distance."""
    s = math.hypot(0.98 * sigma, 0.02)
    return 0.98 * sigma**2 / s


@every_sampler
@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.1, 0.0])
def test_the_mean_action_is_exact(name: str, sigma: float) -> None:
    mean, _ = mean_and_std(SAMPLERS[name], 0.7, sigma)
    assert mean == pytest.approx(0.7, abs=1e-9)


@every_sampler
def test_a_single_action_is_reached_from_every_noise(name: str) -> None:
    """sigma = 0, as a trained `data` policy nearly is. With a stage at t = 1, where the bounded velocity is 0, Heun
    left half a step of the noise in its action, 0.1 at five steps, and RK4 a sixth."""
    assert mean_and_std(SAMPLERS[name], 0.7, 0.0)[1] == pytest.approx(0, abs=1e-9)


ORDERS: list[tuple[Callable[[int], Sampler], int]] = [(Heun, 2), (RK4, 4)]


@pytest.mark.parametrize(("make", "order"), ORDERS)
@pytest.mark.parametrize("sigma", [0.7, 0.4])
def test_methods_with_a_stage_at_the_end_keep_their_order(
    make: Callable[[int], Sampler], order: int, sigma: float
) -> None:
    """To the exact flow followed by the prediction at 0.98. With the stage at t = 1 both were of order 1."""
    coarse, fine = (abs(mean_and_std(make(steps), 0.7, sigma)[1] - exact_std(sigma)) for steps in (64, 256))
    assert math.log(coarse / fine, 4) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("sigma", [1.0, 0.4, 0.1])
def test_the_adaptive_method_is_exact(sigma: float) -> None:
    _, std = mean_and_std(Dopri5(rtol=1e-8, atol=1e-9), 0.7, sigma)
    assert std == pytest.approx(exact_std(sigma), rel=1e-6)
    assert std == pytest.approx(sigma, rel=0.021)  # what the last 0.02 cost: (0.02 / sigma)² / 2 for small ones


@pytest.mark.parametrize("sampler", [Euler, Midpoint, AB2, Ralston])
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_methods_without_one_go_all_the_way_as_they_did(sampler: Callable[[int], Sampler], steps: int) -> None:
    """With the target's exact velocity mu + c(t) (x - t mu), c = (t sigma² - (1 - t)) / s², which their nodes, all
    before 0.98, cannot tell from the prediction's."""

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        return 0.7 + (t * 0.16 - (1 - t)) / (t * t * 0.16 + (1 - t) ** 2) * (x - t * 0.7)

    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    at_0, at_1 = sampler(steps)(velocity, noise, 0.0, 1.0).flatten().tolist()
    assert mean_and_std(sampler(steps), 0.7, 0.4) == pytest.approx((at_0, at_1 - at_0), abs=1e-12)


@pytest.mark.parametrize(
    ("sampler", "steps", "most"),  # root mean square difference of raw actions, whose noise is N(0, 1)
    [("midpoint", 5, 0.004), ("heun", 5, 0.004), ("rk4", 4, 0.004), ("rk4", 1, 0.006), ("heun", 1, 0.012)],
)
def test_a_trained_humanoid_acts_alike_with_every_sampler(sampler: str, steps: int, most: float) -> None:
    """With a velocity at t = 1 these were 0.003, 0.105, 0.044, 0.23 and 0.71."""
    path = DATA / "humanoid-fpo" / "run" / "ckpt.pt"
    content = checkpoint.load(path)
    config, statistics = load_config(content, path), content["normaliser"]
    deviation = (statistics["sum_of_squares"] / statistics["count"]).sqrt()
    random = torch.randn(64, len(deviation), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    obs = (statistics["mean"] + deviation * random).float()
    actions = []
    for name, number in (("euler", 10), (sampler, steps)):
        settings = config.sampler.model_copy(update={"name": name, "steps": number})
        actions.append(load_policy(path, content, config.model_copy(update={"sampler": settings})).policy(obs))
    assert (actions[0] - actions[1]).square().mean().sqrt() < most


# --- which samplers take the last step separately


@pytest.mark.parametrize(
    ("sampler", "changed"),
    [
        (Euler(1), False),
        (Euler(10), False),
        (Euler(50), False),  # evaluated up to 0.98
        (Euler(51), True),
        (Midpoint(25), False),  # up to 1 - 1/50
        (Midpoint(26), True),
        (AB2(10), False),
        (Ralston(5), False),
        (Heun(1), True),
        (RK4(4), True),
        (Dopri5(), True),
    ],
)
def test_only_samplers_that_evaluate_later_are_changed(sampler: Sampler, changed: bool) -> None:
    field = GaussianPrediction(0.0, 1.0)
    assert isinstance(for_field(sampler, field), StraightLastStep) is changed
    assert for_field(sampler, ConstantOutput("u")) is sampler  # it can be evaluated everywhere
    if not changed:
        assert for_field(sampler, field) is sampler


def test_the_last_step_is_counted() -> None:
    assert policy(Heun(5), ConstantOutput("data")).nfe == 11
    assert policy(Heun(5), ConstantOutput("u")).nfe == 10
    assert policy(Euler(10), ConstantOutput("data")).nfe == 10


def test_no_velocity_is_evaluated_after_the_latest_time() -> None:
    times: list[float] = []

    class Watched(GaussianPrediction):
        def bind(self, obs: Tensor) -> Velocity:
            velocity = super().bind(obs)

            def watched(x: Tensor, t: float | Tensor) -> Tensor:
                times.append(float(t))
                return velocity(x, t)

            return watched

    for sampler in SAMPLERS.values():
        policy(sampler, Watched(0.0, 0.3))(torch.zeros(3, 1))
    assert max(times) <= 0.98 + 1e-9


def test_the_evaluations_of_an_adaptive_sampler_are_those_of_a_call() -> None:
    """Their mean over the calls, whose sum grows."""
    flow = policy(Dopri5(), ConstantOutput("u", 0.3))
    flow.noise = Noise(1, "fixed", 0)
    assert flow.nfe == 0
    for _ in range(3):
        flow(torch.zeros(2, 1))
    first = flow.nfe
    flow(torch.zeros(2, 1))
    assert flow.nfe == first > 6
    assert flow.evaluations == 4 * first


# --- faulty samplers


class Faulty:
    """Takes no step; `change` is what becomes of the result."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        self.change = change

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        return self.change(x)  # type: ignore[return-value]


def ends(x: Tensor) -> Tensor:
    sys.exit(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (ends, "failed: SystemExit: 0 (test_flow.py:"),
        (lambda x: x[:, :0], r"returned (2, 0) torch.float32 on cpu for points that are (2, 1) torch.float32 on cpu"),
        (lambda x: x.double(), "returned (2, 1) torch.float64"),
        (lambda x: x.to_sparse(), "returned (2, 1) torch.float32 sparse_coo on cpu"),
        (lambda x: x.to("meta"), "returned (2, 1) torch.float32 on meta"),
        (lambda x: 3, "returned a int"),
    ],
)
def test_a_sampler_that_fails_is_named_as_it_was_typed(change: Callable[[Tensor], object], said: str) -> None:
    parts = ConstantOutput("u"), Normaliser(1, enabled=False), Noise(1, "random", 0), FlowPolicySettings()
    flow = FlowPolicy(*parts, Faulty(change), False, "my.py:Faulty")  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        flow(torch.zeros(2, 1))
    assert str(caught.value).startswith("the sampler 'my.py:Faulty' ")
    assert said in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("attribute", ["nfe", "steps"])
@pytest.mark.parametrize("value", ["many", 1.5, -1, 10**400, True])
def test_a_number_that_a_sampler_declares_is_one(attribute: str, value: object) -> None:
    sampler = Faulty(lambda x: x)
    setattr(sampler, attribute, value)
    with pytest.raises(UsageError, match=f"'Faulty' has {attribute} = {value!r:.10}.*: it must be a whole number"):
        policy(sampler, ConstantOutput("u"))


@pytest.mark.parametrize("raised", [RuntimeError("not yet"), SystemExit(0), KeyboardInterrupt()])
def test_a_number_whose_reading_fails_is_reported(raised: BaseException) -> None:
    class Raising(Faulty):
        @property
        def nfe(self) -> int:
            raise raised

    with pytest.raises(UsageError, match=f"no usable 'nfe': {type(raised).__name__}"):
        policy(Raising(lambda x: x), ConstantOutput("data"))


def test_a_stop_signal_during_a_call_is_no_fault_of_the_sampler() -> None:
    def stopped(x: Tensor) -> Tensor:
        try:
            raise Stopped(signal.SIGTERM)
        except Stopped:
            raise RuntimeError from None

    with pytest.raises(Stopped):
        policy(Faulty(stopped), ConstantOutput("u"))(torch.zeros(2, 1))


# --- what is added to, and cut off, an action


def test_the_perturbation_is_drawn_from_the_policys_own_generator() -> None:
    """So that a resumed run continues it: the second draw of the generator, after that of the noise."""
    settings = FlowPolicySettings(perturbation=0.5)
    noise = Noise(2, "random", 7)
    flow = FlowPolicy(ConstantOutput("u"), Normaliser(1, enabled=False), noise, settings, Euler(1), True)  # type: ignore[arg-type]
    state = noise.generator.get_state()
    torch.manual_seed(1)
    first = flow(torch.zeros(3, 1))
    generator = torch.Generator()
    generator.set_state(state)
    drawn, added = torch.randn(3, 2, generator=generator), torch.randn(3, 2, generator=generator)
    torch.testing.assert_close(first, drawn + 0.5 * added, rtol=0, atol=1e-6)
    assert torch.equal(noise.generator.get_state(), generator.get_state())


def test_no_perturbation_outside_training() -> None:
    flow = policy(Euler(1), ConstantOutput("u"), 2, perturbation=0.5)
    assert torch.equal(flow(torch.zeros(3, 1)), Noise(2, "random", 0)(3))


def test_the_limit_cuts_actions_off_on_both_sides() -> None:
    drawn = Noise(1, "random", 0)(200)
    assert drawn.min() < -0.5 and drawn.max() > 0.5
    limited = policy(Euler(1), ConstantOutput("u"), action_limit=0.5)(torch.zeros(200, 1))
    assert torch.equal(limited, drawn.clamp(-0.5, 0.5))
    assert (limited.min(), limited.max()) == (-0.5, 0.5)


# --- recorded calls


@pytest.mark.parametrize("base", ["none", "normal", "mixture"])
@pytest.mark.parametrize("name", ["euler:10", "heun:5", "ab2:10", "rk4:4"])
def test_recorded_calls_give_the_same_actions_also_after_the_weights_have_changed(name: str, base: Base) -> None:
    """The replay of a recording, which runs no Python, follows every change of weights and of the normalisation."""
    torch.manual_seed(0)
    network = FlowNetwork(3, 2, NetworkSettings(hidden=(8, 8), base=base)).requires_grad_(True)
    normaliser, settings, tape = Normaliser(3), FlowPolicySettings(), Tape()
    called, recorded = (
        FlowPolicy(network, normaliser, Noise(2, "random", 0), settings, SAMPLERS[name], True) for _ in range(2)
    )
    recorded.record_calls(tape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    for rows in (5, 5, 7, 5):
        obs = torch.randn(rows, 3)
        torch.testing.assert_close(recorded(obs), called(obs), rtol=0, atol=0)
        network.bind(obs)(torch.randn(rows, 2), torch.rand(rows, 1)).square().sum().backward()
        optimizer.step()
        normaliser.update(obs)
    assert (tape.recordings, tape.replays) == (2, 4)


def test_a_sampler_that_looks_at_values_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="'Dopri5' does not declare how often it evaluates"):
        policy(Dopri5(), FlowNetwork(1, 1, NetworkSettings())).record_calls(Tape())
