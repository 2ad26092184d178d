"""The optimiser of actor and critic: what a gradient that is not finite leaves as it was, by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from flowrl.training.learner_settings import LearnerSettings
from flowrl.training.optimizer import Optimizer


def made() -> tuple[nn.Module, nn.Module, Optimizer]:
    torch.manual_seed(0)
    actor, critic = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizer = Optimizer(actor, critic, LearnerSettings(max_grad_norm=None))
    optimizer.set_rates(0.1, 0.2)
    return actor, critic, optimizer


def give(network: nn.Module, gradient: float) -> None:
    for weight in network.parameters():
        weight.grad = torch.full_like(weight, gradient)


def weights(*networks: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for network in networks for weight in network.parameters()]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("number", [0, 1])
def test_from_a_gradient_that_is_not_finite_on_no_step_changes_anything(number: int, value: float) -> None:
    """One number in one network's gradient is enough, and finite gradients after it change nothing either."""
    *networks, optimizer = made()
    for network in networks:
        give(network, 1.0)
    optimizer.limited_step()
    before, moments = weights(*networks), copy.deepcopy(optimizer.state_dict()["state"])
    (weight, _) = networks[number].parameters()
    assert weight.grad is not None
    weight.grad[0, 0] = value
    norms = optimizer.limited_step()
    assert norms.isfinite().tolist() == [number != 0, number != 1]
    give(networks[number], 1.0)
    optimizer.limited_step()
    assert optimizer.diverged == 1
    for one, other in zip(before, weights(*networks), strict=True):
        assert torch.equal(one, other)
    for key, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[name], moments[key][name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_the_first_step_moves_every_weight_by_its_rate() -> None:
    """Adam's first step is rate · sign(gradient), but for 1e-8 in its divisor."""
    *networks, optimizer = made()
    before = weights(*networks)
    for network in networks:
        give(network, 3.0)
    norms = optimizer.limited_step()
    assert norms.tolist() == pytest.approx([3 * 6**0.5, 3 * 3**0.5])
    moved = [one - other for one, other in zip(before, weights(*networks), strict=True)]
    for rate, parts in ((0.1, moved[:2]), (0.2, moved[2:])):
        assert all(part.flatten().tolist() == pytest.approx([rate] * part.numel(), rel=1e-5) for part in parts)


def test_rates_in_tensors_are_saved_as_numbers_and_stay_tensors_when_moments_are_loaded() -> None:
    *networks, optimizer = made()
    optimizer.keep_rates_in_tensors()
    optimizer.set_rates(0.3, 0.4)
    for network in networks:
        give(network, 1.0)
    optimizer.limited_step()
    state = optimizer.state_dict()
    assert [group["lr"] for group in state["param_groups"]] == [0.3, 0.4]
    optimizer.load_moments(state["state"])
    assert all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.3, 0.4]
