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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "grid.yaml").write_text(GRID)
    assert cli.run(["train", str(folder / "grid.yaml"), "--out", str(folder), "--name", "run", "--json"]) == 0
    return folder / "run"


def with_stderr_on_a_terminal(arguments: list[str], folder: Path) -> tuple[str, str]:
    """Run flowrl with stderr on a terminal of 100 columns; return what it wrote to stdout and to that terminal.

    In a process of its own: drawing can wait forever in a fork of one that has drawn.
    """
    terminal, stderr = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with (folder / "stdout").open("wb") as stdout:
        command = [sys.executable, "-m", "flowrl", *arguments]
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder, env=environment)
    os.close(stderr)
    shown = read_to_the_end(terminal)
    assert process.wait() == 0, shown
    return (folder / "stdout").read_text(), shown


def read_to_the_end(descriptor: int) -> str:
    shown = b""
    with suppress(OSError):  # a terminal is closed with the last process
        while data := os.read(descriptor, 65536):
            shown += data
    os.close(descriptor)
    return shown.decode()


def in_a_fork(arguments: list[str], folder: Path, reading: int, stderr: int) -> tuple[str, str]:
    """Run flowrl in a fork, which has torch imported, with this `stderr`, which can be read from `reading`."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.chdir(folder)
            os.environ |= {"TERM": "xterm", "COLUMNS": "100"}
            os.dup2(os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(stderr, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            code = cli.run(arguments)
        finally:
            os._exit(code)
    os.close(stderr)
    shown = read_to_the_end(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, shown
    return (folder / "stdout").read_text(), shown


def without_times(table: str) -> list[list[str]]:
    return [line.split()[:-1] for line in table.splitlines()]


@pytest.mark.slow
def test_eval_shows_which_sampler_runs_and_the_episodes_on_a_terminal(run: Path, tmp_path: Path) -> None:
    asked = ["eval", str(run), "--sampler", "euler:1,heun:2", "--noise", "random,zero", "--episodes", "70"]
    stdout, shown = in_a_fork(asked, tmp_path, *pty.openpty())
    assert "(1/4) euler:1, random noise" in shown
    assert "of 70 episodes" in shown
    assert "━" in shown
    assert "(4/4) heun:2, zero noise: return " in shown
    piped, lines = in_a_fork(asked, tmp_path, *os.pipe())
    assert without_times(piped) == without_times(stdout)
    assert not set(lines) & set("\r\x1b━"), "nothing animates where stderr is no terminal"
    parts = [line for line in lines.splitlines() if line.startswith("(")]
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
    words = [word.replace("RUN", str(run)) for word in arguments]
    if arguments[0] == "suite":
        stdout, terminal = in_a_fork(words, tmp_path, *pty.openpty())
    else:
        stdout, terminal = with_stderr_on_a_terminal(words, tmp_path)
    assert shown in terminal
    assert not set(stdout) & set("\r\x1b━")
    if arguments[0] == "suite":
        _, terminal = in_a_fork(["compare", "s"], tmp_path, *pty.openpty())
        assert "reading s" in terminal
        assert "comparing on grid" in terminal
