"""`flowrl eval`: the table as a file."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import flowrl
from flowrl import cli
from flowrl.experiments import evaluate
from tests.small_recipe import small

TRACK = """
algorithm: fpo
total_steps: 8
env: {id: flowrl/HumanoidTrack-v0, count: 2, motions: ["gait:step:seconds=2", "gait:walk:seconds=2"]}
policy: {hidden: [4]}
sampler: {name: euler, steps: 2}
rollout: {steps: 4}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [4]}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "track.yaml").write_text(TRACK)
    assert cli.run(["train", str(folder / "track.yaml"), "--out", str(folder), "--name", "run", "--json"]) == 0
    return folder / "run"


def test_the_table_goes_to_a_file_motion_by_motion(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "new" / "table.csv"
    asked = ["eval", str(trained), "--episodes", "4", "--noise", "random,zero", "--csv", str(table), "--json"]
    assert cli.run(asked) == 0
    printed = capsys.readouterr()
    assert f"wrote {table}" in printed.err
    totals = json.loads(printed.out)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["noise"], row["motion"]) for row in rows] == [
        (noise, clip) for noise in ("random", "zero") for clip in ("gait:step:seconds=2", "gait:walk:seconds=2")
    ]
    assert [row["episodes"] for row in rows] == ["2"] * 4
    for total, parts in zip(totals, (rows[:2], rows[2:]), strict=True):
        for name in ("return_mean", "alive_s", "mpjpe_mm", "arms_mm", "length_mean", "success_rate"):
            assert sum(float(row[name]) for row in parts) / 2 == pytest.approx(total[name])
        assert {row["sampler"] for row in parts} == {"euler"}
    assert float(rows[0]["return_ci95_low"]) <= float(rows[0]["return_mean"]) <= float(rows[0]["return_ci95_high"])


def test_a_table_that_cannot_be_written_is_reported_before_an_episode_is_played(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code = cli.run(["eval", str(trained), "--episodes", "1", "--csv", str(tmp_path / "file" / "t.csv"), "--json"])
    printed = capsys.readouterr()
    assert code == 6
    assert "--csv" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("path", ["/", "ckpt.pt", "table"])
def test_a_table_goes_to_a_csv_alone(
    path: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above all not over the checkpoint that it is about."""
    monkeypatch.chdir(trained)
    before = Path("ckpt.pt").read_bytes()
    assert cli.run(["eval", ".", "--episodes", "1", "--csv", path]) == 2
    assert "tables are written as .csv. Type --csv " in capsys.readouterr().err
    assert Path("ckpt.pt").read_bytes() == before


def test_a_gaussian_policy_is_evaluated_once_whatever_the_samplers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grid.yaml").write_text(
        "algorithm: ppo\ntotal_steps: 32\nenv: {id: flowrl/GridWorld-v0, count: 2}\nrollout: {steps: 16}\n"
    )
    assert cli.run(["train", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--name", "run", "--json"]) == 0
    capsys.readouterr()
    assert cli.run(["eval", str(tmp_path / "run"), "--sampler", "euler,heun", "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2


def test_a_policy_is_not_evaluated_as_if_it_saw_another_goal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it sees is in its checkpoint, and figures under the goal's name would be of that."""
    short = ["total_steps=16", "env.count=4", "env.motions=gait:step", "rollout.steps=4", "policy.hidden=[8]"]
    train = ["train", "humanoid-root.yaml", "--out", str(tmp_path), "--name", "run", "--json"]
    assert cli.run([*train, *(word for each in short for word in ("--set", each))]) == 0
    assert cli.run(["eval", str(tmp_path / "run"), "--episodes", "1", "--set", "env.goal=full"]) == 2
    assert "was trained with goal root" in capsys.readouterr().err


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "grid.yaml").write_text(small(32))
    assert cli.run(["train", str(folder / "grid.yaml"), "--out", str(folder), "--name", "run", "--json"]) == 0
    return folder / "run"


def evaluated(capsys: pytest.CaptureFixture[str], run: Path, *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert cli.run(["eval", str(run), "--episodes", "4", "--json", *words]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = printed if isinstance(printed, list) else [printed]
    return [{key: value for key, value in row.items() if key != "action_us"} for row in rows]


def test_noise_is_one_scale_from_zero_noise_to_that_of_the_training(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At its ends it is, bit for bit, what the modes zero and random are."""
    rows = evaluated(capsys, grid, "--noise-scale", "0, 0.5,1")
    assert [(row["noise"], row["noise_scale"]) for row in rows] == [("zero", 0), ("random", 0.5), ("random", 1)]
    assert evaluated(capsys, grid, "--noise", "zero,random") == [rows[0], rows[2]]
    assert evaluated(capsys, grid) == [rows[2]]
    assert evaluated(capsys, grid, "--set", "noise_scale=0.5") == [rows[1]]
    assert rows[1]["return_mean"] != rows[2]["return_mean"]
    found = {**flowrl.evaluate(grid, noise_scale=0.5, episodes=4)}
    del found["action_us"]
    assert found == rows[1]


def test_a_noise_that_is_named_has_its_full_scale_and_a_scale_alone_is_one_of_random_noise(grid: Path) -> None:
    config = evaluate.open_checkpoint(grid)
    quiet = replace(config, config=config.config.model_copy(update={"noise": "zero"}))
    halved = replace(config, config=config.config.model_copy(update={"noise_scale": 0.5}))
    found = [
        evaluate.configured(opened, evaluate.EvalRequest(noise=noise, noise_scale=scale))
        for opened, noise, scale in [(halved, "random", None), (quiet, None, "0.25"), (halved, "fixed", "0.25")]
    ]
    assert [(each.noise, each.noise_scale) for each in found] == [("random", 1), ("random", 0.25), ("fixed", 0.25)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--noise-scale", "half"], "--noise-scale half: expected a number from 0 (zero noise) to 1"),
        (["--noise-scale", "1.5"], "--noise-scale 1.5"),
        (["--noise-scale", "-0.1"], "--noise-scale -0.1"),
        (["--noise-scale", "nan"], "--noise-scale nan"),
        (["--noise", "zero", "--noise-scale", "0.5"], "has no effect on zero noise"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(
    words: list[str], message: str, grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["eval", str(grid), "--episodes", "1", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_perturbed_actions_are_those_that_a_flow_explores_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(small(32))
    for name, sets in (("own", ["policy.perturbation=0.5"]), ("without", []), ("ppo", ["algorithm=ppo"])):
        words = [word for each in sets for word in ("--set", each)]
        train = ["train", str(tmp_path / "small.yaml"), "--out", str(tmp_path), "--name", name, "--json"]
        assert cli.run([*train, *words]) == 0
    capsys.readouterr()
    opened = evaluate.open_checkpoint(tmp_path / "own")
    request = evaluate.EvalRequest(noise="zero", episodes=4)
    policies = [evaluate.load(opened, replace(request, perturbed=perturbed)).policy for perturbed in (False, True)]
    obs = torch.zeros(4000, 2)
    moved = policies[1](obs) - policies[0](obs)
    assert float(moved.std()) == pytest.approx(0.5, abs=0.02)
    assert cli.run(["eval", str(tmp_path / "own"), "--episodes", "4", "--perturbed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["perturbation"] == 0.5
    for name, why in (("without", "it was trained without"), ("ppo", "a Gaussian explores by")):
        assert cli.run(["eval", str(tmp_path / name), "--perturbed"]) == 2
        assert why in capsys.readouterr().err
