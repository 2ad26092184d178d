"""`flowrl eval`: the table as a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from flowrl import cli

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


@pytest.mark.parametrize("path", ["", "/", "ckpt.pt", "table"])
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
