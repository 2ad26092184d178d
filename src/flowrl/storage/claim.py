"""Claims: one writer at a time on a drive that has no locks, whatever machines share it.

A claim is a file that is created only where there is none (`O_CREAT | O_EXCL`). It names host, process and a time that
its holder renews every 30 seconds. Another process takes it over where its holder has ended on the same machine, or
after five minutes without a renewal, which it has watched for itself: clocks of different machines are not compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flowrl.contracts.notices import say

SUFFIX = ".claim"
RENEW_S = 30.0
SILENCE_S = 300.0  # without a renewal, after which a claim is void
WATCH_S = 65.0  # the least time for which a process watches a claim before it breaks it: two renewals of a living one
SETTLE_S = 0.5  # until the holder of a new claim looks whether another one has taken it at the same instant
MOST_BYTES = 1000  # that are read of a claim

_seen: dict[Path, tuple[bytes, float]] = {}  # what this process has read in claims of others, and since when


def host() -> str:
    """Return the name of this machine, as other machines may know it."""
    return socket.gethostname()


@dataclass(frozen=True)
class Holder:
    """The content of a claim."""

    host: str
    pid: int
    began: str  # date and time, for messages
    machine: str  # the boot of the system and its space of process ids; '' where the system does not say
    born: str  # when the process began, in ticks of the system: another process may get its id later
    token: str
    time: str = "0"  # seconds, when it was renewed

    @property
    def has_ended(self) -> bool:
        """Whether the process is known to have ended: it ran on this machine, and is not there."""
        return bool(self.machine) and self.machine == machine() and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, which began at {self.began},"


class Claim:
    """The right to what `path` stands for, until `release`; `take` makes one."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path = path
        self._holder = holder
        self._process = os.getpid()
        self._renewed = time.time()
        self._released = threading.Event()
        threading.Thread(target=self._renew, name=f"renew {path.name}", daemon=True).start()

    def is_lost(self) -> bool:
        """Return whether another process has taken the claim over, as this one was silent for too long.

        The file is read only where the last renewal is late.
        """
        return time.time() - self._renewed > 2 * RENEW_S and not self._is_own()

    def release(self) -> bool:
        """Give the claim up and remove its file; returns whether it was held. Does nothing in a fork of the holder."""
        if os.getpid() != self._process or self._released.is_set():
            return False
        self._released.set()
        if was_held := self._is_own():
            self._path.unlink(missing_ok=True)
        return was_held

    def _is_own(self) -> bool:
        holder = read(self._path)
        return holder is not None and holder.token == self._holder.token

    def _renew(self) -> None:
        while not self._released.wait(RENEW_S):
            with suppress(OSError):  # the drive may be away for a moment
                if not _renewed(self._path, self._holder):
                    return
                if self._is_own():  # not where this process was stopped between opening the file and writing to it
                    self._renewed = time.time()


def take(path: Path, *, watch: bool = False) -> Claim | None:
    """Claim `path`, whose folder exists; None where another process has claimed it.

    A claim whose holder may have ended on another machine is broken by a later call, which finds that nothing has
    changed; with `watch` this call waits for that. Raises OSError.
    """
    mine = _this_process()
    if not _created(path, mine):
        if watch:
            _watch(path)
        if not is_void(path) or not _broken(path) or not _created(path, mine):
            return None
        time.sleep(SETTLE_S)
        if (now := read(path)) is None or now.token != mine.token:
            return None
    return Claim(path, mine)


def is_held(path: Path) -> bool:
    """Return whether a process has claimed `path`, and lives as far as is known."""
    return path.exists() and not is_void(path)


def is_void(path: Path) -> bool:
    """Return whether the claim at `path` has no living holder; false where there is none, or that is not yet known."""
    content = _content(path)
    if content is None:
        _seen.pop(path, None)
        return False
    holder = _parsed(content)
    if holder is not None and holder.machine and holder.machine == machine():
        return holder.has_ended
    if path not in _seen or _seen[path][0] != content:
        _seen[path] = content, time.monotonic()
    watched = time.monotonic() - _seen[path][1]
    return watched >= WATCH_S and max(watched, _age(path)) >= SILENCE_S


def read(path: Path) -> Holder | None:
    """Return the holder of the claim at `path`; None where there is no claim that can be read."""
    content = _content(path)
    return None if content is None else _parsed(content)


def _watch(path: Path) -> None:
    """Watch a claim that is old by the clock of its drive until it is void, or has changed."""
    before = _content(path)
    if before is None or is_void(path) or _age(path) < SILENCE_S:
        return
    say(f"{read(path) or path} has claimed {path.parent} and is silent; watching for {WATCH_S:.0f} s whether it lives.")
    while not is_void(path) and _content(path) == before:
        time.sleep(1.0)


def _age(path: Path) -> float:
    """Return the seconds since `path` was written, by the clock of its drive: that of a file which is written now."""
    now = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        with suppress(OSError):
            now.unlink(missing_ok=True)


def _broken(path: Path) -> bool:
    """Remove a void claim. Of several processes that do so at once, one succeeds."""
    void = _content(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.rename(aside)
    except OSError:
        return False
    try:
        if _content(aside) == void:
            return True
        with suppress(OSError):  # another process was faster, and this is its new claim: put it back
            os.link(aside, path)
        return False
    finally:
        aside.unlink(missing_ok=True)


def _created(path: Path, holder: Holder) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, _text(holder))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _renewed(path: Path, holder: Holder) -> bool:
    """Write a new time into the claim of `holder`; false where the file is gone, or that of another process.

    What is read is what is written to: a claim that is replaced in between stays as it is.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = _parsed(os.read(descriptor, MOST_BYTES))
        if found is None or found.token != holder.token:
            return False
        os.pwrite(descriptor, _text(holder), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _text(holder: Holder) -> bytes:
    """Return the text of a claim, whose length does not change with the time."""
    return (json.dumps({**asdict(holder), "time": f"{time.time():.3f}"}) + "\n").encode()


def _content(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, MOST_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _parsed(content: bytes) -> Holder | None:
    """Return what a claim says; None for one that is not complete, or not a claim."""
    try:
        fields: dict[str, Any] = json.loads(content)
        texts = {name: str(fields[name]) for name in ("host", "began", "machine", "born", "token", "time")}
        return Holder(pid=int(fields["pid"]), **texts)
    except (ValueError, KeyError, TypeError):
        return None


def _this_process() -> Holder:
    pid = os.getpid()
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(host(), pid, began, machine(), _born(pid), secrets.token_hex(8))


@cache
def machine() -> str:
    """Identify this boot of this system and its space of process ids; '' where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when the process began, in ticks since the boot; '' where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
