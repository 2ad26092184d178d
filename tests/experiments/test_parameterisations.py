"""A policy of every parameterisation is trained, evaluated and resumed, and what is saved of it has a form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowrl import cli
from flowrl.storage import checkpoint

SMALL = ["env.count=4", "rollout.steps=16", "learner.epochs=1", "env.options={max_steps: 16}"]


def run(*words: str) -> int:
    return cli.run(list(words))


def trained(parameterisation: str, steps: int) -> Path:
    settings = [*SMALL, f"policy.parameterisation={parameterisation}", f"total_steps={steps}"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert run("train", "gridworld.yaml", "--name", f"{parameterisation}-{steps}", *words) == 0
    return Path("runs", f"{parameterisation}-{steps}")


@pytest.mark.parametrize("parameterisation", ["u", "eps", "data"])
def test_every_parameterisation_is_trained_evaluated_and_resumed(
    parameterisation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    straight, part = (checkpoint.load(trained(parameterisation, steps) / "ckpt.pt") for steps in (128, 64))
    folder = f"runs/{parameterisation}-64"
    assert run("eval", folder, "--episodes", "2") == 0
    assert run("train", "--resume", folder, "--set", "total_steps=128") == 0
    resumed = checkpoint.load(Path(folder, "ckpt.pt"))
    assert part["actor"].keys() == resumed["actor"].keys()
    assert all(torch.equal(resumed["actor"][name], weight) for name, weight in straight["actor"].items())


def test_a_checkpoint_of_the_earlier_form_of_eps_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = trained("eps", 64)
    content = checkpoint.load(folder / "ckpt.pt")
    del content["actor"]["predicts_residual"]
    checkpoint.save(folder / "ckpt.pt", content)
    capsys.readouterr()
    assert run("eval", str(folder), "--episodes", "1") == 4
    assert "does not predict the noise as this version does" in capsys.readouterr().err
