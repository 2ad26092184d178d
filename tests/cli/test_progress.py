"""Long commands show progress on a terminal, on stderr alone, and at most a line per finished part elsewhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from flowrl import cli

GRID = """
total_steps: 64
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}
"""
FLOWRL = [sys.executable, "-m", "flowrl"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "grid.yaml").write_text(GRID)
    assert cli.run(["train", str(folder / "grid.yaml"), "--out", str(folder), "--name", "run", "--json"]) == 0
    return folder / "run"


def with_stderr_on_a_terminal(arguments: list[str], folder: Path) -> tuple[str, str]:
    """Run flowrl with stderr on a terminal of 100 columns; return what it wrote to stdout and to that terminal."""
    terminal, stderr = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with (folder / "stdout").open("wb") as stdout:
        process = subprocess.Popen([*FLOWRL, *arguments], stdout=stdout, stderr=stderr, cwd=folder, env=environment)
    os.close(stderr)
    shown = b""
    with suppress(OSError):  # the terminal is closed with the last process
        while data := os.read(terminal, 65536):
            shown += data
    os.close(terminal)
    assert process.wait() == 0, shown.decode()
    return (folder / "stdout").read_text(), shown.decode()


def without_times(table: str) -> list[list[str]]:
    return [line.split()[:-1] for line in table.splitlines()]


@pytest.mark.slow
def test_eval_shows_which_sampler_runs_and_the_episodes_on_a_terminal(run: Path, tmp_path: Path) -> None:
    asked = ["eval", str(run), "--sampler", "euler:1,heun:2", "--noise", "random,zero", "--episodes", "70"]
    stdout, shown = with_stderr_on_a_terminal(asked, tmp_path)
    assert "(1/4) euler:1, random noise" in shown
    assert "of 70 episodes" in shown
    assert "━" in shown
    assert "(4/4) heun:2, zero noise: return " in shown
    piped = subprocess.run([*FLOWRL, *asked], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert without_times(piped.stdout) == without_times(stdout)
    assert not set(piped.stderr) & set("\r\x1b━"), "nothing animates where stderr is no terminal"
    parts = [line for line in piped.stderr.splitlines() if line.startswith("(")]
    assert [line.split(" noise:")[0] for line in parts] == [
        f"({place}/4) {sampler}, {noise}"
        for place, (sampler, noise) in enumerate(
            [(sampler, noise) for sampler in ("euler:1", "heun:2") for noise in ("random", "zero")], start=1
        )
    ]


def test_a_single_evaluation_and_one_for_json_print_no_lines_in_a_pipe(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["eval", str(run), "--episodes", "2"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [f"{run / 'ckpt.pt'}", "next"]
    assert cli.run(["eval", str(run), "--episodes", "2", "--noise", "random,zero", "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 2
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["next"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["play", "RUN", "--video", "p.webp", "--max-steps", "5"], "episode 1 of 1, step "),
        (["motions", "gait:step:seconds=2", "--video", "m.webp"], "picture 1 of "),
        (
            ["suite", "grid.yaml", "--algorithms", "ppo", "--seeds", "1", "--episodes", "2", "--out", "s"],
            "0 of 1 trials",
        ),
    ],
)
def test_other_long_commands_show_progress(arguments: list[str], shown: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    stdout, terminal = with_stderr_on_a_terminal([word.replace("RUN", str(run)) for word in arguments], tmp_path)
    assert shown in terminal
    assert not set(stdout) & set("\r\x1b━")
    if arguments[0] == "suite":
        _, terminal = with_stderr_on_a_terminal(["compare", "s"], tmp_path)
        assert "reading s" in terminal
        assert "comparing on grid" in terminal
