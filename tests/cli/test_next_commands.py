"""The last line of a command, `next: …`, can be typed as it is: here each is."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.deployment import c_compiler
from tests.cli.test_own_code import REACH
from tests.envs import own_environment
from tests.other_process import flowrl


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name needs quotes, with an environment of one's own and a run on it."""
    folder = tmp_path_factory.mktemp("own code")
    own_environment.write(folder)
    (folder / "reach.yaml").write_text(REACH)
    assert flowrl([["train", "reach.yaml", "--name", "a"]], folder)[0].code == 0
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from own_environment.entered(trained, tmp_path / "my folder", monkeypatch)


def next_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a command and return the words of the next one that it prints."""
    capsys.readouterr()
    code = cli.run(arguments)
    said = capsys.readouterr().err
    assert code == 0, said
    last = said.splitlines()[-1]
    assert last.startswith("next: "), said
    return shlex.split(last.removeprefix("next: "))


BRIEF = {
    "eval": ["--episodes", "1"],
    "play": ["--video", "a.gif"],
    "bench-latency": ["--steps", "2", "--batch", "1"],
    "train": ["--set", "total_steps=64", "--set", "env.count=2", "--dry-run"],
    "export": ["--no-verify", "--format", "c"],
}

OWN = ["--import", "my_env.py"]


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "runs/a", "--episodes", "1", *OWN],
        ["eval", "runs/a", "--episodes", "1", "--sampler", "euler:2", *OWN],
        ["play", "runs/a", "--video", "a.gif", *OWN],
        ["plot", "runs/a", *OWN],
        ["inspect", "runs/a"],
        ["bench-latency", "runs/a", "--steps", "2", "--batch", "1"],
        ["bench-latency", "runs/a", "--max-p99-us", "1e9"],
        ["bench-latency", "--sampler", "euler", "--steps", "1", "--batch", "1"],
        ["samplers", "check", "euler", "--steps", "2"],
        ["fit-sampler", "runs/a", *OWN],
        ["distil", "runs/a", "--iterations", "1", *OWN],
        ["export", "runs/a", "--no-verify", "--format", "onnx"],
        ["train", "reach.yaml", "--dry-run"],
        ["train", "--resume", "runs/a", *OWN],
        ["envs", "my_env.py:Reach", "--set", "options.length=7"],
        ["envs", "my_env.py:Reach", "--check", "--set", "options.length=7", "--set", "history=2"],
    ],
    ids=" ".join,
)
def test_the_next_command_runs(command: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "onnx" in command:
        pytest.importorskip("onnx")
    program, name, *words = next_words(command, capsys)
    assert program == "flowrl"
    code = cli.run([name, *words, *BRIEF.get(name, [])])
    printed = capsys.readouterr()
    assert code == 0, f"{name} {words}: {printed.err}"
    if command[0] == "envs":
        assert "length: 7" in printed.out


@pytest.mark.skipif(c_compiler.compiler() is None or shutil.which("make") is None, reason="no C compiler or make")
def test_the_makefile_of_an_export_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = next_words(["export", "runs/a", "--format", "c", "--no-verify", "-o", "a b/ü"], capsys)
    assert words == ["make", "-C", "a b/ü", "test"]
    subprocess.run(words, check=True, capture_output=True)
