"""Reading regular files up to a limit of size, for every file that may come from somebody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20  # bytes read at once from a file whose size is not known beforehand
FOLDER, LARGE = "a folder", "a large file"
NO_FILES = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: FOLDER,
}


class UnsuitableFile(ValueError):
    """A path is of another `kind` than a regular file, or the file is larger than what is read."""

    def __init__(self, kind: str, limit: int) -> None:
        super().__init__(
            f"it is larger than {_readable(limit)}, the most that is read"
            if kind == LARGE
            else f"it is {kind}, not a file"
        )
        self.kind = kind


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of the regular file at `path`, or of the one that a link there leads to.

    Raises UnsuitableFile for a pipe, device, socket or folder, which is not opened, and for more than `limit` bytes,
    of which no more is read; OSError when it cannot be read; ValueError for a path with a NUL.
    """
    with open_regular(path, limit) as file:
        content, rest = file.read(os.fstat(file.fileno()).st_size), bytearray()
        while len(content) + len(rest) <= limit and (part := file.read(CHUNK)):  # it grows, or belongs to /proc
            rest += part
    if len(content) + len(rest) > limit:
        raise UnsuitableFile(LARGE, limit)
    return content + rest if rest else content


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open the regular file at `path` for reading; raises what `read_bounded` does, as far as its size is known."""
    _check_regular(os.stat(path), limit)  # noqa: PTH116  before it is opened: to open a device can have an effect
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may have become a pipe since
    try:
        _check_regular(os.fstat(descriptor), limit)
    except ValueError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_regular(status: os.stat_result, limit: int) -> None:
    for is_kind, kind in NO_FILES.items():
        if is_kind(status.st_mode):
            raise UnsuitableFile(kind, limit)
    if status.st_size > limit:
        raise UnsuitableFile(LARGE, limit)


def _readable(size: int) -> str:
    if size % 2**20 == 0:
        return f"{size // 2**20} MiB"
    units = {10**9: "GB", 10**6: "MB", 10**3: "kB"}
    return next((f"{size / unit:.3g} {name}" for unit, name in units.items() if size >= unit), f"{size} bytes")
