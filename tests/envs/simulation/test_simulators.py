"""The choice of the physics engine, and what is said where it cannot be honoured; nothing here needs MuJoCo Warp."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from flowrl import cli
from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.envs import factory
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation import simulators, warp_package


def settings(**keys: Any) -> EnvSettings:
    return EnvSettings(**{"id": "flowrl/CheetahRun-v0", **keys})


@pytest.fixture
def without_warp(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("warp", "mujoco_warp") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_auto_takes_a_gpu_for_many_environments_that_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert simulators.chosen(settings(), 100_000, "") == "mujoco"  # there is no GPU here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(warp_package, "installed", lambda: True)
    assert simulators.chosen(settings(), 4096, "") == "warp"
    assert simulators.chosen(settings(), 4095, "") == "mujoco"
    assert simulators.chosen(settings(), 4096, "it is another kind.") == "mujoco"
    assert simulators.chosen(settings(warp={"device": "cpu"}), 4096, "") == "mujoco"
    assert simulators.chosen(settings(simulator="mujoco"), 4096, "") == "mujoco"
    assert simulators.chosen(settings(simulator="warp"), 1, "") == "warp"
    monkeypatch.setattr(warp_package, "installed", lambda: False)
    assert simulators.chosen(settings(), 4096, "") == "mujoco"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"id": "HalfCheetah-v5"}, "flowrl simulates HalfCheetah-v5 with MuJoCo alone, which computes the external"),
        ({"id": "Pendulum-v1"}, "Pendulum-v1 is no task that flowrl simulates itself"),
        ({"id": "flowrl/GridWorld-v0"}, "flowrl/GridWorld-v0 is no task that flowrl simulates itself"),
        ({"mode": "async"}, "it simulates all environments together"),
    ],
)
def test_what_does_not_run_on_warp_is_refused(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=rf"^env\.simulator=warp: {reason}"):
        factory.make(settings(simulator="warp", **keys), count=2)


def test_the_simulator_is_no_option() -> None:
    with pytest.raises(UsageError, match=r"'simulator' is set by flowrl"):
        factory.make(settings(options={"simulator": 1}), count=2)


@pytest.mark.usefixtures("without_warp")
def test_a_missing_package_exits_with_8_and_the_line_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingDependency, match=r"pip install .*\[gpu\]"):
        factory.make(settings(simulator="warp"), count=2)
    assert cli.run(["train", "cheetah.yaml", "--set", "env.simulator=warp"]) == 8
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "MuJoCo Warp is not installed" in message and "[gpu]" in message
