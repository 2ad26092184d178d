"""Files: read with a limit on their size; written atomically, so that at every instant, a power cut's too, a path
holds the old file or the complete new one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flowrl.contracts.errors import DISK_ERRORS, StorageError, UsageError, did_you_mean

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


@contextmanager
def replacing(path: Path, option: str = "--out") -> Iterator[Path]:
    """Yield a new file beside `path`, with its suffix, that replaces `path` when the block ends without an error.

    It is removed otherwise. The folder is created if need be. A pipe or a device is not replaced but written to.

    Raises StorageError, which names the `option` to change, when the file cannot be written; what can be checked
    beforehand is checked before the block begins.
    """
    target = path.resolve()  # a link stays a link
    if is_stream(target):
        with _reporting(path, target, option):
            yield target
        return
    check(path, option)
    with temporary(target, target.suffix) as part, _reporting(path, part, option):
        yield part
        _replace(target, part)


def write_text(path: Path, text: str, option: str = "--out") -> None:
    """Write `text` to `path`, in UTF-8. Raises what `replacing` does."""
    with replacing(path, option) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path`, replacing a link there. Raises OSError; the old file is then unchanged."""
    with temporary(path) as part:
        part.write_bytes(data)
        _replace(path, part)


def check(path: Path, option: str = "--out") -> None:
    """Create the folder of `path` and check that a file can be written there; for the beginning of long work.

    Raises StorageError, which names the `option` to change.
    """
    target = path.resolve()
    if is_stream(target):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with temporary(target):
            pass
    except OSError as error:
        raise unwritable(path, error, option) from error


def check_suffix(path: Path, option: str, what: str, suffixes: Sequence[str]) -> None:
    """Raise UsageError unless `path`, given as `option`, has one of the `suffixes` of the files that hold `what`."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UsageError(
            f"{option} {path}: {what} are written as {', '.join(suffixes)}.{did_you_mean(suffix, suffixes)} "
            f"Type {option} {path.parent / (path.stem or what)}{suffixes[0]}."
        )


def check_folder_name(name: str, option: str) -> None:
    """Raise UsageError unless `name`, given as `option`, is the name of one folder, without a path to it."""
    if name in ("", ".", "..") or Path(name).name != name or not name.isprintable():
        possible = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-") or "run"
        raise UsageError(
            f"{option} {name}: expected the name of one folder, without a path or control characters. Type {option} "
            f"{possible}, and --out for the folder that holds it."
        )


def is_stream(path: Path) -> bool:
    """Return whether `path` is a pipe or a device, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def unwritable(path: Path, error: OSError, option: str = "--out") -> StorageError:
    """Return the StorageError for an `error` of writing to `path`, which the user chose with `option`."""
    reason = error.strerror or " ".join(str(error).split()[-20:])
    if error.filename and Path(error.filename).parent != path.resolve().parent:
        reason = f"{error.filename}: {reason}"  # a folder on the way
    remedy = "Free some space, or choose" if error.errno in DISK_ERRORS else "Choose"
    return StorageError(f"{path} cannot be written: {reason}. {remedy} another {option}.")


@contextmanager
def temporary(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a new file beside `path` that is removed at the end; it is locked while its writer lives."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp{suffix}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:  # else `remove_orphans` came between open and lock: try again
                yield part
                return
        finally:
            part.unlink(missing_ok=True)
            os.close(descriptor)


def remove_orphans(folder: Path, pattern: str) -> list[Path]:
    """Remove the temporary files that killed writers left in `folder`, and return their paths.

    `pattern` matches the names of the files that were to be replaced, such as '*.pt'.
    """
    removed = []
    for part in folder.glob(f".{pattern}.*.tmp"):
        try:
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives
                part.unlink()
                removed.append(part)
        except OSError:
            continue
    return removed


@contextmanager
def _reporting(path: Path, written: Path, option: str) -> Iterator[None]:
    """Turn an OSError of writing to `written` into a StorageError; an error of a file that was only read passes."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(written)):
            raise
        raise unwritable(path, error, option) from error


def _replace(target: Path, part: Path) -> None:
    """Write `part` to the disk and rename it to `target`, with the permissions of the file that it replaces."""
    if target.exists():
        shutil.copymode(target, part)
    _sync(part)
    part.replace(target)
    try:
        _sync(target.parent)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot sync a folder
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
