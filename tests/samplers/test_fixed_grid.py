"""Fixed-grid samplers against closed forms, published tables and torchdiffeq's own methods."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchdiffeq import odeint

from flowrl_samplers._plan import Tableau, carry, runge_kutta
from flowrl_samplers.ab2 import AB2
from flowrl_samplers.euler import Euler
from flowrl_samplers.heun import Heun
from flowrl_samplers.midpoint import Midpoint
from flowrl_samplers.ralston import Ralston
from flowrl_samplers.rk4 import RK4

SAMPLERS = [Euler, AB2, Midpoint, Heun, Ralston, RK4]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)

# Kutta's 3/8 rule, the method that torchdiffeq calls rk4.
THREE_EIGHTHS = Tableau(a=((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), b=(1 / 8, 3 / 8, 3 / 8, 1 / 8))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def logistic(x: Tensor, t: float) -> Tensor:
    return x * (1 - x)


def uneven(x: Tensor, t: float) -> Tensor:
    """A velocity that depends on x and t, elementwise."""
    return x * math.cos(3 * t) + math.sin(2 * t) - 0.3 * x * x


def gaussian(sigma: float, mu: float = 0.0) -> Callable[[Tensor, float], Tensor]:
    """The exact marginal velocity from N(0, 1) noise to N(mu, sigma^2) actions.

    v = mu + c(t) (x - t mu), c = (t sigma^2 - (1 - t)) / (t^2 sigma^2 + (1 - t)^2).
    """

    def velocity(x: Tensor, t: float) -> Tensor:
        c = (t * sigma**2 - (1 - t)) / (t**2 * sigma**2 + (1 - t) ** 2)
        return mu + c * (x - t * mu)

    return velocity


def mixture(weights: Tensor, means: Tensor, std: float) -> Callable[[Tensor, float], Tensor]:
    """The exact marginal velocity to sum_k w_k N(mu_k, std^2): v = (E[a | x] - x) / (1 - t) in 1-D."""

    def velocity(x: Tensor, t: float) -> Tensor:
        variance = t**2 * std**2 + (1 - t) ** 2
        offset = x - t * means  # (rows, components)
        share = torch.softmax(weights.log() - offset**2 / (2 * variance), dim=-1)
        slope = (t * std**2 - (1 - t)) / variance
        return (share * (means + slope * offset)).sum(dim=-1, keepdim=True)

    return velocity


def std_of_actions(sampler: Callable[..., Tensor], sigma: float) -> float:
    """The flow is linear in x, so that noise of standard deviation 1 ends with the std that x = 1 ends with."""
    return sampler(gaussian(sigma), column(1.0), 0.0, 1.0).item()


# --- order


@every_sampler
@pytest.mark.parametrize("backward", [False, True])
def test_measured_order_is_the_declared_one(sampler: type, backward: bool) -> None:
    start, end = 0.2, 0.2 * math.exp(2) / (0.8 + 0.2 * math.exp(2))  # logistic equation, T = 2
    if backward:
        start, end = end, start
    times = (2.0, 0.0) if backward else (0.0, 2.0)
    errors = [abs(sampler(n)(logistic, column(start), *times).item() - end) for n in (16, 256)]
    assert math.log(errors[0] / errors[1], 16) == pytest.approx(sampler.order, abs=0.1)


# --- the Gaussian field


@pytest.mark.parametrize(
    ("sigma", "stds"),  # of Euler with 1, 2, 4, 5, 8, 10, 16, 32, 64 steps
    [
        (0.1, (0, 0.0099, 0.0281, 0.0360, 0.0538, 0.0617, 0.0750, 0.0869, 0.0932)),
        (0.25, (0, 0.0588, 0.1360, 0.1568, 0.1893, 0.2006, 0.2181, 0.2336, 0.2417)),
        (0.5, (0, 0.2000, 0.3405, 0.3692, 0.4148, 0.4308, 0.4557, 0.4774, 0.4886)),
        (1.0, (0, 0.5000, 0.7200, 0.7705, 0.8508, 0.8790, 0.9227, 0.9606, 0.9801)),
        (2.0, (0, 0.8000, 1.3622, 1.4769, 1.6591, 1.7231, 1.8227, 1.9095, 1.9542)),
    ],
)
def test_std_of_eulers_actions_on_the_gaussian_field(sigma: float, stds: tuple[float, ...]) -> None:
    measured = [std_of_actions(Euler(steps), sigma) for steps in (1, 2, 4, 5, 8, 10, 16, 32, 64)]
    assert measured == pytest.approx(stds, abs=5.1e-5)


@pytest.mark.parametrize(
    ("sigma", "nfe", "stds"),  # of euler, ab2, midpoint, heun, ralston, rk4, and the 3/8 rule
    [
        (0.1, 4, (0.0281, 0.0368, 0.0464, 0.2600, 0.0816, 0.1735, 0.1451)),
        (0.1, 8, (0.0538, 0.0671, 0.0800, 0.1511, 0.1070, 0.1067, 0.1041)),
        (0.1, 16, (0.0750, 0.0887, 0.0973, 0.1127, 0.1050, 0.0931, 0.0976)),
        (0.5, 4, (0.3405, 0.4427, 0.4944, 0.4800, 0.5076, 0.3800, 0.4779)),
        (0.5, 8, (0.4148, 0.4864, 0.4983, 0.5048, 0.5021, 0.4968, 0.5017)),
        (0.5, 16, (0.4557, 0.4970, 0.4998, 0.5024, 0.5009, 0.5000, 0.5001)),
        (1.0, 4, (0.7200, 0.9425, 0.9800, 0.9375, 0.9760, 1.0000, 1.0550)),
        (1.0, 8, (0.8508, 0.9886, 0.9979, 0.9900, 0.9970, 0.9964, 1.0006)),
        (1.0, 16, (0.9227, 0.9976, 0.9997, 0.9987, 0.9996, 0.9999, 1.0001)),
    ],
)
def test_std_of_actions_at_equal_cost(sigma: float, nfe: int, stds: tuple[float, ...]) -> None:
    made = [sampler(nfe // sampler.nfe_per_step) for sampler in SAMPLERS]
    assert all(sampler.nfe == nfe for sampler in made)
    plan = runge_kutta(THREE_EIGHTHS, nfe // 4, 0.0, 1.0)
    measured = [std_of_actions(sampler, sigma) for sampler in made]
    measured.append(carry(plan, gaussian(sigma), column(1.0)).item())
    assert measured == pytest.approx(stds, abs=5.1e-5)


# --- exact identities (tolerance 1e-12)


def test_one_euler_step_carries_every_noise_to_the_mean_action() -> None:
    """At t = 0 the point carries no information on the action: v = E[a] - x. E[a] = .3 (-1) + .5 (.4) + .2 (2) = .3."""
    weights = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
    velocity = mixture(weights, torch.tensor([-1.0, 0.4, 2.0], dtype=torch.float64), 0.15)
    actions = Euler(1)(velocity, column(-3, -0.5, 0, 1, 4), 0.0, 1.0)
    torch.testing.assert_close(actions, torch.full_like(actions, 0.3), rtol=0, atol=1e-12)


@every_sampler
@pytest.mark.parametrize("steps", [1, 2, 5, 13])
def test_zero_noise_ends_at_the_mean_of_a_gaussian(sampler: type, steps: int) -> None:
    """On x = t mu the velocity is mu throughout, which every consistent method follows exactly."""
    mean = sampler(steps)(gaussian(0.3, mu=0.7), column(0.0), 0.0, 1.0).item()
    assert mean == pytest.approx(0.7, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_euler_reaches_a_single_action_exactly(steps: int) -> None:
    actions = Euler(steps)(lambda x, t: (0.6 - x) / (1 - t), column(-2, 0, 3), 0.0, 1.0)
    torch.testing.assert_close(actions, torch.full_like(actions, 0.6), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_eulers_last_step_returns_the_last_predicted_action(steps: int) -> None:
    """With v = (a_hat - x) / (1 - t) the step from 1 - h to 1 gives a_hat, whatever a_hat was."""
    predicted: list[Tensor] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        predicted.append(torch.tanh(2 * x + t))
        return (predicted[-1] - x) / (1 - t)

    actions = Euler(steps)(velocity, column(-1, 0.3, 2), 0.0, 1.0)
    torch.testing.assert_close(actions, predicted[-1], rtol=0, atol=1e-12)


@every_sampler
def test_zero_noise_stays_between_two_equal_modes(sampler: type) -> None:
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    velocity = mixture(half, torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.15)
    assert abs(sampler(10)(velocity, column(0.0), 0.0, 1.0).item()) < 1e-12


def test_eulers_two_modes() -> None:
    """Targets +-1 with std .15: mean |x|, std within a mode and mass in |x| < .5 of published runs."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    velocity = mixture(half, torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.15)
    levels = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    noise = torch.special.ndtri(levels)[:, None]
    for sampler, mean, std, between in [
        (Euler(5), 0.931, 0.155, 0.0275),
        (Euler(10), 0.964, 0.138, 0.0074),
        (Heun(5), 1.005, 0.172, 0.0058),
        (Heun(10), 0.999, 0.158, 0.0022),
    ]:
        size = sampler(velocity, noise, 0.0, 1.0).abs()
        assert size.mean().item() == pytest.approx(mean, abs=2e-3)
        assert size.std().item() == pytest.approx(std, abs=2e-3)
        assert (size < 0.5).double().mean().item() == pytest.approx(between, abs=5e-4)


@every_sampler
@pytest.mark.parametrize("t1", [1.0, -0.5])
def test_constant_velocity_is_followed_exactly(sampler: type, t1: float) -> None:
    moved = sampler(7)(lambda x, t: torch.full_like(x, -2.0), column(1.0, 5.0), 0.25, t1)
    torch.testing.assert_close(moved, column(1.0, 5.0) - 2 * (t1 - 0.25), rtol=0, atol=1e-12)


# --- the methods themselves


@pytest.mark.parametrize(("sampler", "method"), [(Euler, "euler"), (Midpoint, "midpoint"), (Heun, "heun2")])
@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.3, 2.0)])
def test_torchdiffeq_gives_the_same(sampler: type, method: str, times: tuple[float, float]) -> None:
    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(4, 3)
    theirs = odeint(
        lambda t, y: uneven(y, t.item()),
        x,
        torch.tensor(times, dtype=torch.float64),
        method=method,
        options={"grid_constructor": lambda f, y, t: torch.linspace(*times, 9, dtype=torch.float64)},
    )[-1]
    torch.testing.assert_close(sampler(8)(uneven, x, *times), theirs, rtol=0, atol=1e-12)


def test_rk4_is_the_classic_method() -> None:
    """On v = t^4 a step is a quadrature: Simpson's (0 + 4/16 + 1) / 6 = 5/24, and not the 3/8 rule's
    (0 + 3/81 + 3 * 16/81 + 1) / 8 = 11/54. With x in v all four stages show: v = x from 1 gives 65/24."""
    fourth_power = RK4(1)(lambda x, t: torch.full_like(x, t**4), column(0.0), 0.0, 1.0)
    assert fourth_power.item() == pytest.approx(5 / 24, abs=1e-15)
    assert RK4(1)(lambda x, t: x, column(1.0), 0.0, 1.0).item() == pytest.approx(65 / 24, abs=1e-15)


def test_one_step_by_hand() -> None:
    """x' = x + t from x = 1 over h = 1.

    Midpoint: v1 = 1, v2 = 1.5 + .5 = 2, x = 3. Heun: v2 = 2 + 1 = 3, x = 1 + (1 + 3)/2 = 3.
    Ralston: v2 = 5/3 + 2/3 = 7/3, x = 1 + 1/4 + 3/4 * 7/3 = 3. Euler: 2.
    AB2 in two steps of 1/2: Euler's x = 1.5, v = 1.5 + .5 = 2, then 1.5 + 1/2 (3/2 * 2 - 1/2 * 1) = 2.75.
    """
    results = {s(1): s(1)(lambda x, t: x + t, column(1.0), 0.0, 1.0).item() for s in SAMPLERS[2:5]}
    assert results == pytest.approx(dict.fromkeys(results, 3.0), abs=1e-15)
    assert Euler(1)(lambda x, t: x + t, column(1.0), 0.0, 1.0).item() == 2.0
    assert AB2(2)(lambda x, t: x + t, column(1.0), 0.0, 1.0).item() == 2.75


# --- the contract


@every_sampler
def test_forth_and_back_returns_to_the_noise(sampler: type) -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    there = sampler(400)(uneven, x, 0.0, 1.0)
    assert (there - x).abs().max() > 0.1
    back = sampler(400)(uneven, there, 1.0, 0.0)
    tolerance = 2.0 * 400.0**-sampler.order
    torch.testing.assert_close(back, x, rtol=0, atol=tolerance)


@every_sampler
@pytest.mark.parametrize("shape", [(1, 1), (37, 3), (64, 17), (5, 1)])
def test_rows_are_independent(sampler: type, shape: tuple[int, int]) -> None:
    x = torch.linspace(-1, 1, shape[0] * shape[1]).reshape(shape)
    alone = torch.cat([sampler(7)(uneven, row[None], 0.0, 1.0) for row in x])
    assert torch.equal(sampler(7)(uneven, x, 0.0, 1.0), alone)


@every_sampler
def test_times_are_numbers_and_as_many_as_declared(sampler: type) -> None:
    times: list[object] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        times.append(t)
        return x

    for t0, t1 in [(0.0, 1.0), (1.0, 0.0)]:
        times.clear()
        made = sampler(11)
        made(velocity, column(1.0), t0, t1)
        assert len(times) == made.nfe == made.plan(t0, t1).nfe == 11 * sampler.nfe_per_step
        assert tuple(times) == made.plan(t0, t1).times
        assert all(type(t) is float and 0 <= t <= 1 for t in times)
        assert times[0] == t0


def test_stages_that_meet_have_the_same_time() -> None:
    """Heun's second stage has the time at which the next step starts: a table of time embeddings has 1 + steps rows."""
    assert len(set(Heun(10).plan(0.0, 1.0).times)) == 11
    assert len(set(RK4(7).plan(1.0, 0.0).times)) == 15


def test_a_plan_is_made_once() -> None:
    assert Heun(9).plan(0.0, 1.0) is Heun(9).plan(0.0, 1.0)
    assert AB2(9).plan(0.0, 1.0) is not AB2(9).plan(1.0, 0.0)


@every_sampler
def test_gradients_flow_through(sampler: type) -> None:
    """On a linear velocity x1 = g x0, so that dx1/dx0 = g = x1 / x0."""
    x = column(0.5, -2.0).requires_grad_()
    end = sampler(6)(gaussian(0.5), x, 0.0, 1.0)
    (gradient,) = torch.autograd.grad(end.sum(), x)
    torch.testing.assert_close(gradient, (end / x).detach(), rtol=1e-12, atol=0)


@every_sampler
def test_empty_batches_pass(sampler: type) -> None:
    assert sampler(3)(uneven, torch.empty(0, 4), 0.0, 1.0).shape == (0, 4)


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
        self.names.append(function.__name__)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(
    ("sampler", "additions"),  # a step: one per non-zero weight of the tableau; AB2's first step has one less
    [(Euler, 10), (AB2, 19), (Midpoint, 20), (Heun, 30), (Ralston, 30), (RK4, 70)],
)
def test_the_loop_only_adds(sampler: type, additions: int) -> None:
    x, v = column(0.0), column(1.0)
    with Operations() as operations:
        sampler(10)(lambda x, t: v, x, 0.0, 1.0)
    assert operations.names == ["add.Tensor"] * additions


@every_sampler
@pytest.mark.parametrize(("steps", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError)])
def test_steps_are_a_positive_integer(sampler: type, steps: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="steps must be"):
        sampler(steps)
