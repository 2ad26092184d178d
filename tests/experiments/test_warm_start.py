"""A warm start: weights and statistics of a checkpoint; optimiser, seed and progress of the new run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flowrl import cli
from flowrl.experiments import build, train, warm_start
from flowrl.storage import checkpoint

SMALL = """
algorithm: fpo
total_steps: 64
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
sampler: {name: euler, steps: 2}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, ema_decay: 0.5, critic: {hidden: [8]}}
ppo: {policy: {hidden: [8]}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe small.yaml and a finished run of it, `runs/first`."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(["train", "small.yaml", "--name", "first", "--json"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


def planned(*overrides: str) -> tuple[train.TrainPlan, build.Run]:
    """The plan of a run that begins with runs/first, and the run before its first iteration."""
    plan = train.plan("small.yaml", ["init_from=runs/first", *overrides], None)
    run = build.Run(plan.config)
    assert plan.initial is not None
    warm_start.begin(run, plan.initial)
    run.start()
    run.env.close()
    return plan, run


def test_weights_and_statistics_are_those_of_the_checkpoint() -> None:
    saved = checkpoint.load(Path("runs/first/ckpt.pt"))
    _, run = planned("seed=7")
    state = run.training.learner.state_dict()
    for part in ("actor", "critic", "average", "normaliser"):
        assert state[part].keys() == saved[part].keys()
        assert all(torch.equal(state[part][name], saved[part][name]) for name in state[part]), part
    fresh = build.Run(run.config).training.learner.state_dict()
    assert any(not torch.equal(fresh["actor"][name], saved["actor"][name]) for name in saved["actor"])


def test_optimiser_progress_and_random_numbers_are_the_new_runs_own() -> None:
    saved = checkpoint.load(Path("runs/first/ckpt.pt"))
    _, run = planned("seed=7")
    state = run.training.learner.state_dict()
    assert state["optimizer"]["state"] == {} and saved["optimizer"]["state"] != {}
    assert state["schedule"] == {"updates": 0, "factor": 1.0} and saved["schedule"]["updates"] == 2
    assert run.training.progress() == {"iteration": 0, "env_steps": 0, "seconds": 0.0}
    fresh = build.Run(run.config)
    assert torch.equal(run.training.learner.generators[0].get_state(), fresh.training.learner.generators[0].get_state())


def test_the_first_policy_of_the_run_is_that_of_the_checkpoint() -> None:
    path = Path("runs/first/ckpt.pt")
    content = checkpoint.load(path)
    first = build.load_policy(path, content | {"average": None}, build.load_config(content, path))
    _, run = planned("noise=zero")
    obs = torch.rand(5, first.observation_size)
    for policy in (first.policy, run.training.collectors[0].act):
        policy.noise.mode = "zero"  # type: ignore[attr-defined]
    assert torch.equal(first.policy(obs), run.training.collectors[0].act(obs))


def test_a_critic_of_another_network_begins_with_new_weights(capsys: pytest.CaptureFixture[str]) -> None:
    _, run = planned("learner.critic.hidden=[16]")
    fresh = build.Run(run.config).training.learner.critic.state_dict()
    held = run.training.learner.critic.state_dict()
    assert all(torch.equal(held[name], fresh[name]) for name in fresh)
    line = capsys.readouterr().err
    assert "learner.critic.hidden is [16] here and [8] there" in line and line.count("\n") == 1


def test_a_critic_of_rewards_in_another_unit_begins_with_new_weights(capsys: pytest.CaptureFixture[str]) -> None:
    planned("learner.reward_scale=0.1")
    assert "learner.reward_scale is 0.1 here and 1.0 there" in capsys.readouterr().err


def test_another_environment_of_equal_sizes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    planned("env.options={mode: three_goals}")
    line = capsys.readouterr().err
    assert "another environment: env.options.mode" in line and "three_goals" in line


REFUSED = [
    (["env.id=InvertedPendulum-v5"], ["InvertedPendulum-v5 has 4 observation and 1 action numbers", "take 2 and 2"]),
    (["policy.hidden=[9]"], ["policy.hidden is [9] here and [8] in"]),
    (["policy.activation=relu"], ['policy.activation is "relu" (text) here and "silu" (text) in']),
    (["policy.parameterisation=eps"], ["policy.parameterisation"]),
    (["learner.normalise_observations=false"], ["learner.normalise_observations is false here and true in"]),
    (["algorithm=ppo"], ["holds a flow policy, and this run has a gaussian one", "algorithm: fpo"]),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_other_networks_are_refused_with_both_values(
    overrides: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in Path("runs").iterdir())
    sets = [word for override in overrides for word in ("--set", override)]
    assert cli.run(["train", "small.yaml", "--init-from", "runs/first", *sets]) == 2
    message = capsys.readouterr().err
    assert 'flowrl: --set init_from="runs/first"' in message and "Traceback" not in message
    for word in words:
        assert word in message
    assert sorted(path.name for path in Path("runs").iterdir()) == before


def test_a_dry_run_refuses_another_environment_too(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "small.yaml", "--init-from", "runs/first", "--set", "env.id=InvertedPendulum-v5", "--dry-run"]
    assert cli.run(arguments) == 2
    assert "take 2 and 2" in capsys.readouterr().err


def test_a_recipe_names_a_missing_checkpoint_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("from.yaml").write_text(SMALL + "init_from: runs/fisrt\n")
    assert cli.run(["train", "from.yaml"]) == 4
    message = capsys.readouterr().err
    assert "from.yaml line 10, key init_from: there is no checkpoint or run folder runs/fisrt" in message
    assert "'first'" in message


def test_a_suite_refuses_it_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("from.yaml").write_text(SMALL + "init_from: runs/first\n")
    arguments = ["suite", "from.yaml", "--algorithms", "fpo", "--set", "env.id=InvertedPendulum-v5", "--out", "runs/s"]
    assert cli.run(arguments) == 2
    assert "take 2 and 2" in capsys.readouterr().err and not Path("runs/s").exists()


def test_the_run_records_where_its_weights_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    """In its configuration and its checkpoint; a resume keeps the record and needs the first run no more."""
    arguments = ["train", "small.yaml", "--init-from", "runs/first", "--name", "second", "--json"]
    assert cli.run(arguments) == 0
    capsys.readouterr()
    assert cli.run(["inspect", "runs/first", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    Path("runs/first").rename("runs/moved")
    try:
        assert cli.run(["train", "--resume", "runs/second", "--set", "total_steps=128", "--json"]) == 0
    finally:
        Path("runs/moved").rename("runs/first")
    content = checkpoint.load(Path("runs/second/ckpt.pt"))
    assert content["config"]["init_from"] == "runs/first"
    assert content["initial_weights"] == {
        "path": "runs/first/ckpt.pt",
        "sha256": first["sha256"],
        "algorithm": "fpo",
        "env": "flowrl/GridWorld-v0",
        "env_steps": 64,
        "critic": True,
    }
    capsys.readouterr()
    assert cli.run(["inspect", "runs/second"]) == 0
    shown = capsys.readouterr().out
    assert f"runs/first/ckpt.pt (fpo on flowrl/GridWorld-v0, 64 env steps, sha256 {first['sha256'][:16]}…)" in shown
    assert first["initial_weights"] is None


def test_a_resume_cannot_begin_with_other_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--resume", "runs/first", "--init-from", "runs/first"]) == 2
    assert "it gave the weights that the run began with" in capsys.readouterr().err
