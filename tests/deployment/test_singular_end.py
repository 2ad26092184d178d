"""How much samplers weigh the end of time where a velocity is divided by almost 0, by hand."""

from __future__ import annotations

import pytest

from flowrl.deployment.singular_end import magnification, warning
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.samplers import registry


def network(parameterisation: str) -> FlowNetwork:
    return FlowNetwork(2, 1, NetworkSettings(hidden=(4,), parameterisation=parameterisation))  # type: ignore[arg-type]


# The weight of the velocity at t = 1 is h / 2 with Heun and h / 6 with RK4; at t = 0 the first step or stage is h long,
# with midpoint h / 2; each is divided by 0.02. Euler's last velocity is at 1 - h.
BY_HAND = [
    ("data", "heun", 5, 0.1 / 0.02),
    ("data", "heun", 2, 0.25 / 0.02),
    ("data", "rk4", 10, 1 / 60 / 0.02),
    ("data", "euler", 10, 0.0),
    ("data", "midpoint", 5, 0.0),
    ("data", "ab2", 4, 0.0),
    ("eps", "euler", 10, 0.1 / 0.02),
    ("eps", "midpoint", 5, 0.1 / 0.02),
    ("eps", "euler", 1, 1 / 0.02),
    ("u", "heun", 2, 0.0),
]


@pytest.mark.parametrize(("parameterisation", "name", "steps", "expected"), BY_HAND)
def test_the_weight_at_the_singular_end(parameterisation: str, name: str, steps: int, expected: float) -> None:
    found = magnification(registry.make(name, {"steps": steps}), network(parameterisation))
    assert found == pytest.approx(expected, rel=1e-9)


def test_an_adaptive_sampler_is_not_judged() -> None:
    assert magnification(registry.make("dopri5"), network("data")) == 0


def test_the_warning_names_samplers_without_such_a_node() -> None:
    heun, own = registry.make("heun", {"steps": 5}), registry.make("euler", {"steps": 10})
    text = warning("heun:5", heun, network("data"), own)
    assert text.startswith("heun:5 may give actions that are off") and "at t = 1" in text
    assert "magnifies the errors there 5 times" in text and text.endswith("Take midpoint:5 or ab2:10 instead.")
    assert warning("heun:5", heun, network("u"), own) == ""
    assert warning("rk4:10", registry.make("rk4", {"steps": 10}), network("data"), own) == ""


def test_a_sampler_is_compared_with_that_of_the_training() -> None:
    """What the policy was trained with, it has learned with; every sampler begins at t = 0, where eps is singular."""
    heun, euler = registry.make("heun", {"steps": 5}), registry.make("euler", {"steps": 10})
    assert warning("heun:5", heun, network("data"), heun) == ""
    assert warning("euler:10", euler, network("eps"), euler) == ""
    text = warning("euler:2", registry.make("euler", {"steps": 2}), network("eps"), euler)
    assert "25 times, 5 times with the sampler of the training. Compare its return. Take more steps." in text
