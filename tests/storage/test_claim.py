"""Claims stand in for locks on drives that have none: real processes, and hosts that differ in their names."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowrl.storage import claim, files, lock
from flowrl.storage.lock import Locked, RunLock


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that refuses flock, for this process and its forks."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewals and silences of tenths of a second."""
    claim._seen.clear()
    for name, seconds in (("RENEW_S", 0.2), ("WATCH_S", 0.8), ("SILENCE_S", 2.0), ("SETTLE_S", 0.05)):
        monkeypatch.setattr(claim, name, seconds)


class OtherProcess:
    """A fork that does `work` and then waits; on another machine, as far as its claims say."""

    def __init__(self, work: Callable[[], object], host: str = "elsewhere") -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            claim.host = lambda: host
            claim.machine = lambda: f"boot of {host}"
            os.write(writing, b"1" if work() else b"0")
            while True:
                time.sleep(0.05)  # a signal may be that of the thread that renews, and would not end a pause
        self.succeeded = os.read(reading, 1) == b"1"
        os.close(reading)
        os.close(writing)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            os.waitpid(self.pid, 0)


@pytest.fixture
def other() -> Iterator[list[OtherProcess]]:
    """Processes that are killed at the end of the test."""
    processes: list[OtherProcess] = []
    yield processes
    for process in processes:
        try:
            process.signal(signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_claim_names_its_holder_and_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "a.claim"
    held = claim.take(path)
    assert held is not None and claim.take(path) is None
    first = json.loads(path.read_text())
    assert (first["host"], first["pid"]) == (claim.host(), os.getpid())
    time.sleep(0.6)
    assert float(json.loads(path.read_text())["time"]) > float(first["time"])
    assert claim.is_held(path) and not held.is_lost()
    assert held.release() and not path.exists() and not held.release()


def test_a_claim_of_a_process_that_has_ended_on_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.claim"
    child = os.fork()
    if child == 0:
        claim.take(path)
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists() and not claim.is_held(path)
    held = claim.take(path)
    assert held is not None and held.release()


def test_a_silent_claim_of_another_machine_is_broken_after_it_was_watched(
    tmp_path: Path, other: list[OtherProcess]
) -> None:
    path = tmp_path / "a.claim"
    other.append(OtherProcess(lambda: claim.take(path)))
    begin = time.monotonic()
    while time.monotonic() - begin < 2.5:  # longer than a silence: it is renewed
        assert claim.take(path) is None
        time.sleep(0.02)
    holder = claim.read(path)
    assert holder is not None and str(holder).startswith(f"process {other[0].pid} on elsewhere, which began at 2")
    other[0].signal(signal.SIGKILL)
    begin, held = time.monotonic(), None
    while held is None:
        held = claim.take(path)
        time.sleep(0.02)
    assert time.monotonic() - begin > 0.4  # five minutes, in this test: the silence less a renewal
    assert claim.read(path) is not None and held.release()


def test_an_old_claim_is_watched_before_it_is_broken(tmp_path: Path, other: list[OtherProcess]) -> None:
    """A claim that looks old may be that of a machine with another clock, whose next renewal shows that it lives."""
    path = tmp_path / "a.claim"
    other.append(OtherProcess(lambda: claim.take(path)))
    os.utime(path, (0, 0))
    assert claim.take(path, watch=True) is None
    other[0].signal(signal.SIGKILL)
    os.utime(path, (0, 0))
    held = claim.take(path, watch=True)
    assert held is not None and held.release()


def test_a_holder_that_was_stopped_finds_its_claim_lost(
    tmp_path: Path, no_locks: None, other: list[OtherProcess]
) -> None:
    """As a suspended machine: it writes nothing more, and leaves the new holder's files alone."""
    marks = tmp_path / "marks"
    marks.mkdir()

    def hold() -> bool:
        held = RunLock(tmp_path)

        def report(*_: object) -> None:
            try:
                held.check()
            except Locked as error:
                (marks / "lost").write_text(str(error))
            held.release()

        signal.signal(signal.SIGUSR1, report)
        return True

    other.append(process := OtherProcess(hold))
    process.signal(signal.SIGSTOP)
    mine = None
    while mine is None:
        try:
            mine = RunLock(tmp_path)
        except Locked:
            time.sleep(0.05)
    process.signal(signal.SIGUSR1)
    process.signal(signal.SIGCONT)
    while not (marks / "lost").exists():
        time.sleep(0.02)
    text = (marks / "lost").read_text()
    assert f"process {os.getpid()} on " in text and "nothing more is written" in text
    assert lock.is_locked(tmp_path) and (tmp_path / lock.NAME).exists()
    mine.check()
    mine.release()
    assert not (tmp_path / lock.CLAIM).exists()


def test_of_many_processes_one_breaks_a_claim(tmp_path: Path, other: list[OtherProcess]) -> None:
    """All of them see at the same instant that it is void."""
    path, go = tmp_path / "a.claim", tmp_path / "go"
    other.append(OtherProcess(lambda: claim.take(path)))
    other[0].signal(signal.SIGKILL)
    takers = []
    for number in range(4):
        taker = os.fork()
        if taker == 0:
            while not claim.is_void(path):
                time.sleep(0.01)
            (tmp_path / f"ready{number}").touch()
            while not go.exists():
                time.sleep(0.001)
            held = claim.take(path)
            time.sleep(0.5)
            os._exit(0 if held is None else 1 + held.is_lost())
        takers.append(taker)
    while not all((tmp_path / f"ready{number}").exists() for number in range(4)):
        time.sleep(0.01)
    go.touch()
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(taker, 0)[1]) for taker in takers)
    assert codes == [0, 0, 0, 1]


def test_a_run_is_locked_by_a_claim_where_there_are_no_locks(
    tmp_path: Path, no_locks: None, other: list[OtherProcess]
) -> None:
    other.append(OtherProcess(lambda: RunLock(tmp_path)))
    assert lock.is_locked(tmp_path)
    with pytest.raises(Locked, match=f"process {other[0].pid} on elsewhere, which began at 2"):
        RunLock(tmp_path)
    held = lock.lock_file(tmp_path / "trial.log")
    assert held is not None and lock.lock_file(tmp_path / "trial.log") is None
    assert lock.file_is_locked(tmp_path / "trial.log")
    held.close()
    assert not lock.file_is_locked(tmp_path / "trial.log") and not (tmp_path / "trial.log.claim").exists()


def test_files_are_written_where_there_are_no_locks(tmp_path: Path, no_locks: None) -> None:
    files.write_text(tmp_path / "a.txt", "new")
    part = tmp_path / ".ckpt.pt.0123.tmp"
    part.write_text("of a writer that may live")
    assert files.remove_orphans(tmp_path, "*.pt") == []
    os.utime(part, (0, 0))
    assert files.remove_orphans(tmp_path, "*.pt") == [part]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("option", "seen"), [("local_lock=all", False), ("nolock", False), ("local_lock=none", True)])
def test_locks_that_one_machine_alone_sees_are_none(
    option: str, seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    line = f"30 1 {os.major(device)}:{os.minor(device)} / /mnt rw - nfs4 server:/home rw,vers=4.2,{option}\n"
    monkeypatch.setattr(Path, "read_text", lambda self: line)
    lock._locks_are_of_one_machine.cache_clear()
    with (tmp_path / "a").open("wb") as file:
        assert lock.try_lock(file) is (True if seen else None)
    lock._locks_are_of_one_machine.cache_clear()


HELD = """
import sys, time
from pathlib import Path
from flowrl.storage.lock import RunLock
RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.long
def test_two_hosts_with_names_of_their_own(tmp_path: Path) -> None:
    """Namespaces of the system give a process another host name."""
    named = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
    if subprocess.run([*named, "a", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let users make namespaces")
    with subprocess.Popen(
        [*named, "first-host", sys.executable, "-c", HELD, str(tmp_path)], stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        words = [*named, "second-host", sys.executable, "-c", HELD, str(tmp_path)]
        second = subprocess.run(words, capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 1 and "on first-host, which began at 2" in second.stderr
