"""Commands that run in forks of a process that has imported PyTorch."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from flowrl.experiments.suite import processes
from flowrl.experiments.suite.processes import ForkedProcess, ForkServer

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="forks only on Linux")


@pytest.fixture(scope="module")
def server() -> ForkServer:
    return ForkServer(os.environ)


def started(server: ForkServer, folder: Path, *arguments: str) -> ForkedProcess:
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return ForkedProcess(server, server.start(arguments, out.fileno(), err.fileno()), None)


def test_a_command_runs_in_the_current_folder_and_its_exit_code_comes_back(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("algorithm: fpo\n")  # without an environment
    process = started(server, tmp_path, "train", "mine.yaml", "--dry-run")
    assert process.wait() == 2
    assert "mine.yaml" in (tmp_path / "err").read_text()
    assert (tmp_path / "out").read_text() == ""
    process = started(server, tmp_path, "samplers", "--json")
    assert process.wait() == 0
    assert "euler" in [each["name"] for each in json.loads((tmp_path / "out").read_text())]


def test_standard_output_is_a_pipe_unless_a_file_is_given(tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err:
        process = processes.start(["samplers", "--json"], os.environ, stderr=err)
        assert process.stdout is not None
        assert "euler" in [each["name"] for each in json.loads(process.stdout.read())]
        assert process.wait() == 0
        again = processes.start(["--version"], os.environ, stderr=err)
        assert isinstance(again, ForkedProcess)
        assert isinstance(process, ForkedProcess)
        assert again._server is process._server
        other = processes.start(["--version"], {**os.environ, "OMP_NUM_THREADS": "2"}, stderr=err)
        assert isinstance(other, ForkedProcess)
        assert other._server is not process._server  # PyTorch has read the variable already
        assert (again.wait(), other.wait()) == (0, 0)


@pytest.mark.slow
def test_stop_signals_reach_the_command_and_not_its_server(server: ForkServer, tmp_path: Path) -> None:
    arguments = ("train", "gridworld.yaml", "--out", str(tmp_path), "--name", "run", "--set", "total_steps=1000000000")
    process = started(server, tmp_path, *arguments)
    assert os.getsid(process.pid) == process.pid  # Ctrl-C in the terminal of the suite does not reach it
    process.send_signal(signal.SIGTERM)  # at once: whatever it is doing
    assert process.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM)  # before or after it has its own handler
    process = started(server, tmp_path, *arguments)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    os.kill(server._server.pid, signal.SIGTERM)
    assert started(server, tmp_path, "--version").wait() == 0


@pytest.mark.slow
def test_a_command_whose_server_is_killed_is_killed_as_well(tmp_path: Path) -> None:
    server = ForkServer(os.environ)
    settings = ("--set", "total_steps=1000000000")
    process = started(server, tmp_path, "train", "gridworld.yaml", "--out", str(tmp_path), "--name", "run", *settings)
    server._server.kill()
    server._server.wait()
    assert process.wait() == -signal.SIGKILL
    assert not server.alive
    until = time.monotonic() + 60
    while state(process.pid) not in ("", "Z") and time.monotonic() < until:
        time.sleep(0.05)
    assert state(process.pid) in ("", "Z")  # gone, or not yet reaped


def state(pid: int) -> str:
    """The letter of the state of a process, '' when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
