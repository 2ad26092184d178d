"""`flowrl new`: what it writes is correct, learns, and is never written over something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.reporting.jsonl import read

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("kind", ["gymnasium", "mujoco"])
def test_what_is_written_passes_ruff_and_says_what_to_type(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", "envs/my_robot.py", "--kind", kind]) == 0
    said = capsys.readouterr().err
    assert "flowrl envs envs/my_robot.py:MyRobot --check" in said
    assert said.splitlines()[-1] == "next: flowrl train envs/my_robot.yaml"
    ruff = Path(sys.executable).with_name("ruff")
    for words in (["check", "--config", ROOT / "pyproject.toml"], ["format", "--check", "--line-length", "120"]):
        done = subprocess.run([ruff, *words, "envs/my_robot.py"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    before = Path("envs/my_robot.py").read_text()
    for name in ("envs/my_robot.py", "envs/my_robot.py"):
        assert cli.run(["new", name]) == 2
        assert "exists already, and is not overwritten" in capsys.readouterr().err
        Path("envs/my_robot.yaml").unlink(missing_ok=True)
    assert Path("envs/my_robot.py").read_text() == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-robot.py", "Type: flowrl new my_robot.py"),
        ("class.py", "Type: flowrl new my_env.py"),
        ("my_robot", "Type: flowrl new my_robot.py"),
        (
            "torch.py",
            "would hide the installed module torch from all that is run beside it. Choose another name, such as:",
        ),
        ("json.py", "the module json of Python's standard library"),
        ("3d.py", "Type: flowrl new my_env.py"),
    ],
)
def test_a_name_that_is_no_module_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", name]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["gymnasium", "mujoco"])
def test_it_learns(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of its recipe's training is enough to be far better than at the start.

    Returns of a policy that does nothing useful are about -40 (40 steps at a mean distance of 1 m) and 4.
    """
    monkeypatch.chdir(tmp_path)
    assert cli.run(["new", "my_env.py", "--kind", kind]) == 0
    steps = {"gymnasium": 16_000, "mujoco": 32_000}[kind]
    assert cli.run(["train", "my_env.yaml", "--set", f"total_steps={steps}", "--name", "a"]) == 0
    returns = [row["return_mean"] for row in read(Path("runs/a/metrics.jsonl")) if "return_mean" in row]
    early, late = sum(returns[:3]) / 3, sum(returns[-3:]) / 3
    assert late > {"gymnasium": early + 8, "mujoco": early + 8}[kind]
