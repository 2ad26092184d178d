"""Writing files whole: at every instant what stands at a path is the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flowrl.contracts.errors import StorageError, UsageError, did_you_mean

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path, option: str = "--out") -> Iterator[Path]:
    """A new file beside `path` to write to, with its suffix: it takes its place when the block ends well, and is gone
    otherwise. The folder is made if need be. What is no regular file, a pipe or a device, is written to itself.

    Raises StorageError, which says to choose another `option`, when the file cannot be written; what cannot be known
    before is told before the block begins.
    """
    target = path.resolve()  # a link stays a link
    if is_stream(target):
        with _told(path, target, option):
            yield target
        return
    part = _part(target)
    try:
        check(path, option)
        with _told(path, part, option):
            yield part
        with _told(path, part, option):
            _put(part, target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str, option: str = "--out") -> None:
    """Write `text` to `path`, in UTF-8. Raises what `replacing` does."""
    with replacing(path, option) as part:
        part.write_text(text, encoding="utf-8")


def check(path: Path, option: str = "--out") -> None:
    """Make the folder of `path` and see whether a file can be written there: what takes long should begin with it.

    Raises StorageError, which says to choose another `option`.
    """
    target = path.resolve()
    if is_stream(target):
        return
    part = _part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        part.touch()
        part.unlink()
    except OSError as error:
        raise unwritable(path, error, option) from error


def check_suffix(path: Path, option: str, what: str, suffixes: Sequence[str]) -> None:
    """UsageError unless `path`, given as `option`, has one of the `suffixes` that `what` is written as."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UsageError(
            f"{option} {path}: {what} are written as {', '.join(suffixes)}.{did_you_mean(suffix, suffixes)} "
            f"Type {option} {path.parent / (path.stem or what)}{suffixes[0]}."
        )


def is_stream(path: Path) -> bool:
    """Whether a pipe or a device stands at `path`, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def unwritable(path: Path, error: OSError, option: str = "--out") -> StorageError:
    """What to tell of `error`, for which `path`, that the user chose with `option`, is not written."""
    reason = error.strerror or " ".join(str(error).split()[-20:])
    if error.filename and Path(error.filename).parent != path.resolve().parent:
        reason = f"{error.filename}: {reason}"  # a folder on the way
    remedy = "Free some space, or choose" if error.errno in FULL else "Choose"
    return StorageError(f"{path} cannot be written: {reason}. {remedy} another {option}.")


def _part(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")


@contextmanager
def _told(path: Path, written: Path, option: str) -> Iterator[None]:
    """An OSError of writing to `written` as StorageError; another file's, which was only read, as it is."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(written)):
            raise
        raise unwritable(path, error, option) from error


def _put(part: Path, target: Path) -> None:
    """Let `part`, once it is on the disk, be `target`, with the permissions of the file that stood there."""
    if target.exists():
        shutil.copymode(target, part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
