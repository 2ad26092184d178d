"""Stop signals, sent to real processes as terminals, systemd and Slurm send them: to every process of a command."""

import os
import pty
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from flowrl.cli import run
from flowrl.contracts.errors import Stopped, stop_behind
from flowrl.experiments.signals import StopSignal, raising
from flowrl.storage import checkpoint
from tests.other_process import Command, descendants

MODES = {
    "sync": ("pendulum.yaml", "--set", "env.mode=sync"),
    "async": ("pendulum.yaml", "--set", "env.mode=async"),
    "batch": ("gridworld.yaml",),
}
SMALL = ["--name", "run", "--set", "total_steps=100_000_000", "--set", "env.count=4", "--set", "learner.epochs=1"]


def training(folder: Path, *words: str, before: Callable[[], None] = lambda: None) -> Command:
    """Start a training and wait for its first iteration."""
    command = Command(folder, "train", *words, *SMALL, before=before)
    lines = folder / "runs/run/metrics.jsonl"
    command.wait_for(lambda: lines.exists() and lines.stat().st_size > 0)
    return command


def saved_iterations(folder: Path) -> tuple[int, int]:
    """The iteration in ckpt.pt, and the number of lines of metrics.jsonl."""
    content = checkpoint.load(folder / "runs/run/ckpt.pt")
    return content["progress"]["iteration"], len((folder / "runs/run/metrics.jsonl").read_text().splitlines())


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "number", "code"),
    [
        ("async", signal.SIGTERM, 143),
        ("async", signal.SIGHUP, 129),
        ("sync", signal.SIGHUP, 129),
        ("batch", signal.SIGINT, 130),
    ],
)
def test_a_signal_to_every_process_saves_and_ends(mode: str, number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = training(tmp_path, *MODES[mode])
    os.killpg(process.pid, number)
    ended, errors = process.end()
    assert ended == code, errors
    assert f"stopped by {number.name}; saved runs/run/ckpt.pt." in errors
    assert errors.splitlines()[-1].endswith("flowrl train --resume runs/run")
    assert "Traceback" not in errors
    iteration, lines = saved_iterations(tmp_path)
    assert iteration == lines > 0
    assert group_members(process.pid) == []


@pytest.mark.slow
def test_a_signal_to_a_worker_process_alone_is_ignored(tmp_path: Path) -> None:
    process = training(tmp_path, *MODES["async"])
    workers = [pid for pid in group_members(process.pid) if pid != process.pid]
    assert len(workers) == 4
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(workers[0], number)
    time.sleep(0.2)
    assert sorted(group_members(process.pid)) == sorted([process.pid, *workers])
    os.kill(process.pid, signal.SIGTERM)
    ended, errors = process.end()
    assert ended == 143, errors


@pytest.mark.slow
def test_worker_processes_end_with_a_killed_run(tmp_path: Path) -> None:
    process = training(tmp_path, *MODES["async"])
    assert len(group_members(process.pid)) == 5
    os.kill(process.pid, signal.SIGKILL)
    process.end()
    limit = time.monotonic() + 10
    while group_members(process.pid):
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_quits_at_once(number: signal.Signals, code: int, tmp_path: Path) -> None:
    slow = ("gridworld.yaml", "--set", "rollout.steps=20000", "--set", "policy.hidden=[8]")
    process = Command(tmp_path, "train", *slow, *SMALL)
    config = tmp_path / "runs/run/config.yaml"
    process.wait_for(config.exists)
    time.sleep(1.0)  # in the first iteration, which takes long
    os.killpg(process.pid, number)
    time.sleep(0.8)
    assert process.running
    os.killpg(process.pid, number)
    ended, errors = process.end(10)
    assert ended == code, errors
    assert errors.splitlines()[-1] == f"flowrl: stopped by {'SIGINT (Ctrl-C)' if code == 130 else 'SIGTERM'}."
    assert "Traceback" not in errors


@pytest.mark.slow
def test_nohup_keeps_a_training_running(tmp_path: Path) -> None:
    process = training(tmp_path, *MODES["batch"], before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert process.running
    os.killpg(process.pid, signal.SIGTERM)
    assert process.end()[0] == 143


@pytest.mark.slow
def test_closing_the_terminal_saves(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os._exit(run(["train", *MODES["async"], *SMALL]))
    lines = tmp_path / "runs/run/metrics.jsonl"
    limit = time.monotonic() + 60
    os.set_blocking(terminal, False)
    while not (lines.exists() and lines.stat().st_size):
        assert time.monotonic() < limit
        try:
            os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.02)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    iteration, count = saved_iterations(tmp_path)
    assert iteration == count > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("eval", signal.SIGTERM, 143), ("eval", signal.SIGINT, 130), ("play", signal.SIGHUP, 129)],
)
def test_a_command_without_anything_to_save_ends_with_one_line(
    command: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    words = ["--set", "env.mode=async", "--episodes", "100000"] if command == "eval" else ["--episodes", "10000"]
    checkpoint_folder = Path(__file__).parents[1] / "data/checkpoints/gridworld-fpo/run"
    process = Command(tmp_path, command, str(checkpoint_folder), *words, *(["--video", "x.webp"] * (command == "play")))
    children = 65 if command == "eval" else 1  # 64 environments and the command
    process.wait_for(lambda: len(group_members(process.pid)) >= children)
    time.sleep(1.5)  # importing and making environments, then playing
    os.killpg(process.pid, number)
    ended, errors = process.end(30)
    assert ended == code, errors
    assert errors.splitlines() == [f"flowrl: stopped by {'SIGINT (Ctrl-C)' if code == 130 else number.name}."]
    assert group_members(process.pid) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_suite_lets_its_trials_save(tmp_path: Path) -> None:
    """systemd signals the trials as well as the suite, which then passes the signal on: together one request."""
    options = ["--algorithms", "fpo", "--seeds", "1", "--out", "out", "--steps", "100M"]
    process = Command(tmp_path, "suite", "gridworld.yaml", *options)
    lines = tmp_path / "out/gridworld/fpo/seed0/metrics.jsonl"
    process.wait_for(lambda: lines.exists() and lines.stat().st_size > 0)
    others = descendants(process.pid)  # the process that forks the trials, and the trial
    assert len(others) == 2
    for pid in (*others, process.pid):
        os.kill(pid, signal.SIGTERM)
    ended, errors = process.end()
    assert ended == 143, errors
    assert "Traceback" not in errors
    content = checkpoint.load(lines.with_name("ckpt.pt"))
    assert content["progress"]["iteration"] == len(lines.read_text().splitlines())


# --- the context itself -----------------------------------------------------------------------------


def test_signals_of_one_request_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 0.4
        os.kill(os.getpid(), signal.SIGINT)  # forwarded by a parent, say
        assert (stop.count, stop.signal, stop.last) == (1, signal.SIGTERM, signal.SIGTERM)
        now[0] += 0.2
        os.kill(os.getpid(), signal.SIGINT)
        assert (stop.count, stop.signal, stop.last) == (2, signal.SIGTERM, signal.SIGINT)
        assert (stop.take(), stop.take()) == (2, 0)


def test_an_error_after_a_swallowed_stop_is_raised_as_that_stop() -> None:
    """A module written in C, such as NumPy's, swallows what is raised while it is imported, and fails later."""
    with pytest.raises(Stopped) as stopped, raising():
        with suppress(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        raise ImportError("cannot load module more than once per process")
    assert stopped.value.exit_code == 143
    with pytest.raises(ImportError, match="as ever"), raising():
        raise ImportError("as ever")


def test_a_swallowed_stop_is_the_first_of_a_training_that_begins_after_it() -> None:
    with raising():
        with suppress(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        with StopSignal() as stop:
            assert (stop.signal, stop.count) == (signal.SIGTERM, 1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.count == 1  # of the same request
    with StopSignal() as later:
        assert (later.signal, later.count) == (None, 0)


def test_the_cause_of_an_error_is_found_behind_what_replaced_it() -> None:
    error: BaseException | None = None
    try:
        try:
            raise Stopped(signal.SIGTERM)
        except BaseException:
            raise ValueError("as a wrapper of an environment may say") from None
    except ValueError as raised:
        error = raised
    assert error is not None
    stopped = stop_behind(error)
    assert stopped is not None
    assert stopped.exit_code == 143
    assert stop_behind(ValueError("another")) is None
