"""One writer per run folder, whatever happens to the writer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from flowrl.contracts.errors import StorageError, UsageError
from flowrl.storage import lock
from flowrl.storage.lock import Locked, RunLock


def holder(folder: Path) -> tuple[int, int]:
    """A process that holds the lock on `folder` until it is killed: its id and that of a child that it has forked."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        RunLock(folder)
        child = os.fork()
        if child == 0:
            signal.pause()
        os.write(writing, b"%d" % child)
        signal.pause()
    child = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    return process, child


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    process, child = holder(tmp_path)
    try:
        assert lock.is_locked(tmp_path)
        with pytest.raises(Locked, match=f"process {process} on {socket.gethostname()}, which began at 2") as caught:
            RunLock(tmp_path)
        assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert not lock.is_locked(tmp_path)  # though its child lives, as a worker of environments may
    os.kill(child, 0)
    again = RunLock(tmp_path)
    os.kill(child, signal.SIGKILL)
    assert lock.is_locked(tmp_path)
    assert f"process {os.getpid()} " in lock.holder(tmp_path)
    again.release()
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    with pytest.raises(Locked):
        RunLock(tmp_path)
    first.release()
    first.release()
    RunLock(tmp_path).release()


def attempt(folder: Path, results: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    for _ in range(100):
        try:
            held = RunLock(folder)
        except Locked:
            continue
        mark = folder / "mark"
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails where another one holds the lock as well
            mark.unlink()
        except FileExistsError:
            results.put("two writers")
        held.release()
    results.put("done")


def test_never_do_two_processes_hold_it(tmp_path: Path) -> None:
    """The file is removed at each release, and made again: a lock on a removed file is none."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=attempt, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == ["done"] * 3


def test_a_folder_that_cannot_be_written_to_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"writer\.lock"):
        RunLock(tmp_path / "missing")


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "precious")


@pytest.mark.parametrize("make", [link, os.mkfifo, Path.mkdir])
def test_what_is_no_lock_file_is_refused_and_not_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    """An archive of a run, which may come from anyone, can hold it."""
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("kept")
    folder.mkdir()
    make(folder / lock.NAME)
    with pytest.raises(UsageError, match=rf"{folder}/\.writer\.lock.* is not a file; remove it"):
        RunLock(folder)
    assert not lock.is_locked(folder)
    assert lock.holder(folder) == "another process"
    assert precious.read_text() == "kept"


def test_the_text_of_a_lock_file_is_printed_with_escapes(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_bytes(b"process 1 on a\x1b[2Jb")
    assert lock.holder(tmp_path) == r"process 1 on a\x1b[2Jb"
