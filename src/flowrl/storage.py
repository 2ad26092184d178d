"""Writing files whole: what stands at a path is the old file or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowrl.errors import StorageError


@contextmanager
def replacing(path: Path, option: str = "--out") -> Iterator[Path]:
    """A path beside `path` to write to, with its suffix: it takes its place when the block ends well, and is gone
    otherwise. The folder is made if need be.

    Raises StorageError, which says to choose another `option`, for an OSError in the block or on the way.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        yield part
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error, option) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str, option: str = "--out") -> None:
    """Write `text` to `path`, in UTF-8. Raises what `replacing` does."""
    with replacing(path, option) as part:
        part.write_text(text, encoding="utf-8")


def unwritable(path: Path, error: OSError, option: str = "--out") -> StorageError:
    """What to tell of `error`, for which `path`, that the user chose with `option`, is not written."""
    reason = error.strerror or " ".join(str(error).split()[-20:])
    if error.filename and Path(error.filename).parent != path.parent:
        reason = f"{error.filename}: {reason}"  # a folder on the way
    return StorageError(f"{path} cannot be written: {reason}. Choose another {option}, or free some space.")
