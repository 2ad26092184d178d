"""Locks between processes: one writer per run folder.

A lock is `flock`'s: the system releases it when its process ends, however it ends. Processes that Python forks from
the holder give their copy up; a subprocess keeps it only where it inherits the file. On a drive that refuses `flock`,
or whose locks other machines do not see, a claim stands in for it: see `flowrl.storage.claim`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from functools import cache
from pathlib import Path
from typing import BinaryIO

from flowrl.contracts.errors import UsageError
from flowrl.contracts.printable import printable
from flowrl.storage import claim
from flowrl.storage.claim import Claim
from flowrl.storage.files import NO_LOCKS, unwritable

NAME = ".writer.lock"
CLAIM = f".writer{claim.SUFFIX}"
OF_ONE_MACHINE = ("nolock", "local_lock=flock", "local_lock=all", "localflock")
"""Options of a network drive (NFS, Lustre) under which other machines do not see its locks."""
MOST_BYTES = 1000  # that are read of the text in a lock file
LOOK_S = 0.05  # longer than `is_locked` holds a lock that it looks at
TEXT_WAIT_S = 0.5  # the longest time between a lock and the text that its holder writes


class Locked(UsageError):
    """Another process writes to the run."""


def try_lock(file: BinaryIO) -> bool | None:
    """Lock the open `file` until it is closed: true, or false while another process holds the lock.

    None: its file system has no locks, or none that other machines see.
    """
    if _locks_are_of_one_machine(os.fstat(file.fileno()).st_dev):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


@cache
def _locks_are_of_one_machine(device: int) -> bool:
    """Return whether the file system `device` is mounted so that other machines do not see its locks (Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    name = f"{os.major(device)}:{os.minor(device)}"
    options = [line.rpartition(" ")[2].split(",") for line in lines if line.split()[2] == name]
    return any(option in OF_ONE_MACHINE for each in options for option in each)


class LockedFile:
    """A file that is open for appending, and locked until `close`; processes that inherit it keep the lock.

    A claim that stands in for the lock ends with this process.
    """

    def __init__(self, file: BinaryIO, held: Claim | None) -> None:
        self.file = file
        self._claim = held

    def close(self) -> None:
        """Close the file and release it."""
        if self._claim is not None:
            self._claim.release()
        self.file.close()


def lock_file(path: Path) -> LockedFile | None:
    """Open `path` for appending and lock it; None when another process holds the lock. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    locked, held = try_lock(file), None
    if locked is None:
        held = claim.take(claim_of(path))
    if locked is False or (locked is None and held is None):
        file.close()
        return None
    return LockedFile(file, held)


def file_is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock of `lock_file` on `path`."""
    try:
        with path.open("rb") as file:
            locked = try_lock(file)
    except OSError:
        return False
    return locked is False or (locked is None and claim.is_held(claim_of(path)))


def claim_of(path: Path) -> Path:
    """Return the path of the claim that stands in for a lock on the file `path`."""
    return path.with_name(f"{path.name}{claim.SUFFIX}")


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

    The file `.writer.lock` holds host, process and time of the holder, and is removed at the release. On a drive
    without locks `.writer.claim` is beside it.

    Raises Locked, naming the holder, when another process writes to the run; UsageError when `.writer.lock` is a link
    or a pipe; StorageError when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._claim: Claim | None = None
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
            if self._claim is None or self._claim.release():
                self.path.unlink(missing_ok=True)  # before the lock is released: a new holder's file is another one
            self._close()

    def check(self) -> None:
        """Raise Locked where another process has taken over a claim that was silent, as in a suspended machine."""
        if self._claim is not None and self._claim.is_lost():
            raise Locked(
                f"this process was stopped for more than {claim.SILENCE_S / 60:.0f} minutes, and "
                f"{holder(self.path.parent)} has taken over {self.path.parent}: nothing more is written. That process "
                "continues the run."
            )

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
            if locked is None:
                self._claim = claim.take(self.path.with_name(CLAIM), watch=True)
                if self._claim is None:
                    file.close()
                    raise Locked(refusal(self.path.parent))
                return file
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
            locked = try_lock(file)
        return locked is False or (locked is None and claim.is_held(folder / CLAIM))
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
    return f"process {os.getpid()} on {claim.host()}, which began at {time.strftime('%Y-%m-%d %H:%M:%S')},\n"
