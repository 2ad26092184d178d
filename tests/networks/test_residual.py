"""Residual networks: their sum by hand, in every kind of network, from training to a refused export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import flowrl
from flowrl import cli
from flowrl.networks.critic import CriticSettings
from flowrl.networks.mlp import ResidualMLP, lecun_uniform
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from tests.small_recipe import small


def test_the_output_is_the_sum_by_hand() -> None:
    """Weights of 1 and biases of 0: h = (3, 1) → + relu((1, -1)) summed = (4, 2) → norm (1, -1) → last (1, 0)."""
    network = ResidualMLP([2, 2, 2, 1], "relu", lecun_uniform)
    first, block, last = network.linears
    with torch.no_grad():
        first.weight.copy_(torch.eye(2))
        block.weight.fill_(1.0)
        last.weight.copy_(torch.tensor([[1.0, 0.0]]))
        assert network(torch.tensor([[3.0, 1.0]])).item() == pytest.approx(1.0, abs=1e-4)
        last.weight.copy_(torch.tensor([[0.0, 2.0]]))
        assert network(torch.tensor([[3.0, 1.0]])).item() == pytest.approx(-2.0, abs=1e-4)


def test_a_velocity_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(3, 2, NetworkSettings(hidden=(16, 16), residual=True))
    obs, x = torch.randn(5, 3), torch.randn(5, 2)
    with torch.no_grad():
        acting = network.bind(obs)(x, 0.3)
    torch.testing.assert_close(acting, network.bind(obs)(x, 0.3))
    assert not torch.allclose(acting, FlowNetwork(3, 2, NetworkSettings(hidden=(16, 16))).bind(obs)(x, 0.3))


def test_layers_of_several_widths_and_a_single_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"at least two hidden layers"):
        NetworkSettings(hidden=(8,), residual=True)
    for settings in (NetworkSettings, CriticSettings):
        with pytest.raises(ValidationError, match=r"hidden is \[8, 16\]. Set hidden to \[16, 16\]"):
            settings(hidden=(8, 16), residual=True)


@pytest.mark.parametrize("algorithm", ["fpo", "ppo"])
def test_a_residual_policy_trains_and_acts_and_its_export_is_refused(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(small(64))
    keys = (f"algorithm={algorithm}", "policy.residual=true", "learner.critic.residual=true", "policy.hidden=[8, 8]",
            "learner.critic.hidden=[8, 8]")  # fmt: skip
    sets = [word for key in keys for word in ("--set", key)]
    train = ["train", str(tmp_path / "small.yaml"), "--out", str(tmp_path), "--name", "run", "--json"]
    assert cli.run([*train, *sets]) == 0
    assert flowrl.load(tmp_path / "run")(torch.zeros(2).numpy()).shape == (2,)
    assert cli.run(["export", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 2
    assert "residual connections (policy.residual) cannot be exported yet" in capsys.readouterr().err
