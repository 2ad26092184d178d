"""Atomic writing: at every instant, a power cut's too, a path holds the old file or the complete new one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flowrl.contracts import regular_files
from flowrl.contracts.errors import DISK_ERRORS, StorageError, UsageError, did_you_mean

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""The errors of `flock` on a drive that has no locks."""

ORPHAN_S = 86_400  # the age of a temporary file that nobody writes any more, where that cannot be seen by its lock


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
    named = Path(os.fsdecode(error.filename)) if error.filename else path  # TensorBoard gives bytes
    if named.parent not in (path.parent, path.resolve().parent):
        reason = f"{named}: {reason}"  # a folder on the way
    remedy = "Free some space, or choose" if error.errno in DISK_ERRORS else "Choose"
    return StorageError(f"{path} cannot be written: {reason}. {remedy} another {option}.")


@contextmanager
def temporary(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a new file beside `path` that is removed at the end; it is locked while its writer lives."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp{suffix}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
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
            with regular_files.open_regular(part, sys.maxsize) as file:  # a pipe would be waited for
                if not _is_written(file):
                    part.unlink()
                    removed.append(part)
        except (OSError, ValueError):
            continue
    return removed


def _is_written(file: BinaryIO) -> bool:
    """Return whether the writer of a temporary file lives, or may live, on a drive without locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS or time.time() - os.fstat(file.fileno()).st_mtime < ORPHAN_S
    return False


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
