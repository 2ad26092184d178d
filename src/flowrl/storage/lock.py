"""Locks between processes: one writer per run folder.

A lock is `flock`'s: the system releases it when its process ends, however it ends. Processes that Python forks from
the holder give their copy up; a subprocess keeps it only where it inherits the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import BinaryIO

from flowrl.contracts.errors import UsageError
from flowrl.contracts.printable import printable
from flowrl.storage.files import unwritable

NAME = ".writer.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
MOST_BYTES = 1000  # that are read of the text in a lock file
LOOK_S = 0.05  # longer than `is_locked` holds a lock that it looks at
TEXT_WAIT_S = 0.5  # the longest time between a lock and the text that its holder writes


class Locked(UsageError):
    """Another process writes to the run."""


def try_lock(file: BinaryIO) -> bool | None:
    """Lock the open `file` until it is closed: true, or false while another process holds the lock.

    None: its file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _open(path: Path, mode: int) -> BinaryIO:
    """Open the lock file at `path` in the `mode` of `os.open`; a link is not followed, and a pipe not waited for.

    Raises UsageError when something else than a file is there, which may have come with a folder from anyone.
    """
    try:
        descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a socket, a folder
            raise UsageError(_not_a_file(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(_not_a_file(path))
    return os.fdopen(descriptor, "rb" if mode == os.O_RDONLY else "ab")


def _not_a_file(path: Path) -> str:
    return f"{path}, which locks the run for its writer, is not a file; remove it, and type the same command again."


class RunLock:
    """The right to write to the run in `folder`, which exists, until `release` or the end of the process.

    The file `.writer.lock` holds host, process and time of the holder, and is removed at the release. `works` is false
    on a file system without locks, where other processes cannot be noticed.

    Raises Locked, naming the holder, when another process writes to the run; UsageError when `.writer.lock` is a link
    or a pipe; StorageError when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.works = True
        self._file: BinaryIO | None = None
        try:
            self._file = self._locked()
            self._file.truncate(0)
            self._file.write(_description().encode())
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error
        os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Remove the file and release the lock."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)  # before the lock is released: a new holder's file is another one
            self._close()

    def _locked(self) -> BinaryIO:
        while True:
            file = _open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            locked, give_up = try_lock(file), time.monotonic() + LOOK_S
            while locked is False and time.monotonic() < give_up:
                time.sleep(LOOK_S / 10)
                locked = try_lock(file)
            if locked is False:
                file.close()
                raise Locked(refusal(self.path.parent))
            self.works = locked is True
            try:
                if os.path.samestat(os.fstat(file.fileno()), self.path.lstat()):
                    return file
            except FileNotFoundError:
                pass
            file.close()  # the holder released it between open and lock: try again

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(folder: Path) -> bool:
    """Return whether a living process writes to the run in `folder`."""
    try:
        with _open(folder / NAME, os.O_RDONLY) as file:
            return try_lock(file) is False
    except (OSError, UsageError):
        return False


def refusal(folder: Path) -> str:
    """Explain that another process writes to the run in `folder`, and which."""
    return (
        f"{holder(folder)} is training in {folder}: two trainings would overwrite each other's files. Wait "
        "until it has ended or stop it, or choose another --name for a new run."
    )


def holder(folder: Path) -> str:
    """Return 'process 12 on host, which began at …' for the process that has locked the run in `folder`."""
    path = folder / NAME
    give_up = time.monotonic() + TEXT_WAIT_S
    while time.monotonic() < give_up:
        try:
            with _open(path, os.O_RDONLY) as file:
                text = file.read(MOST_BYTES).decode(errors="replace").strip()
        except (OSError, UsageError):
            break
        if text:
            return printable(text)
        time.sleep(0.01)
    return "another process"


def _description() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, which began at {time.strftime('%Y-%m-%d %H:%M:%S')},\n"
