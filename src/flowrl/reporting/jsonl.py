"""metrics.jsonl: one JSON object per iteration, the source of all learning curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.storage.files import unwritable

NAME = "metrics.jsonl"


class MetricsFile:
    """A reporter that appends one line per iteration and flushes it at once.

    `offset=None` begins a new file. A resumed run gives the `offset` of its checkpoint: everything after it
    (iterations that the resumed run repeats, a line torn by a crash) is cut off, so that an interrupted and an
    uninterrupted run leave the same file.

    Raises UsageError when a new run would overwrite the metrics of another, or when `offset` is not the end of a line
    (the file belongs to another run), and StorageError when the file cannot be written.
    """

    def __init__(self, path: Path, offset: int | None = None) -> None:
        self.path = path
        try:
            if offset is None:
                _refuse_to_overwrite(path)
            else:
                _cut(path, offset)
            self._file = path.open("ab")
        except OSError as error:
            raise unwritable(path, error) from error

    @property
    def offset(self) -> int:
        """The length of the file in bytes after the last line, for the checkpoint."""
        return self._file.tell()

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Append `metrics` as the line of `iteration`; numbers that are not finite become null."""
        record = {"iteration": iteration} | {key: _number(value) for key, value in metrics.items()}
        line = json.dumps(record, allow_nan=False, separators=(",", ":"))
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file; every line was flushed."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Read every iteration of a metrics file, in order; a null becomes None.

    A torn last line (the run is being written, or was killed) is left out. Raises UsageError with file and line for
    any other line that is not a JSON object.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=lambda _: None)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no line end follows: torn
                break
            raise UsageError(
                f"{path}, line {number}: not a JSON object, so this is not a metrics file of flowrl, or it is "
                f"damaged. Delete that line, or name the run folder that holds {NAME}."
            ) from error
        records.append(record)
    return records


def find(run: Path) -> Path:
    """Return the metrics file of a run folder, or the file itself.

    Raises CheckpointError when there is no such folder, as for every argument that names a run, and UsageError when
    the folder is not that of a run.
    """
    if run.is_file():
        return run
    if not run.exists():
        raise CheckpointError(f"there is no run {run}: name a folder that `flowrl train` has written (runs/NAME).")
    if (run / NAME).is_file():
        return run / NAME
    inside = sorted(file.parent for file in run.glob(f"*/{NAME}"))
    if inside:
        listed = " ".join(str(folder) for folder in inside[:3])
        more = f" … ({len(inside)} runs)" if len(inside) > 3 else ""
        raise UsageError(f"{run} is not a run but holds runs: name them, as in `flowrl plot {listed}`{more}.")
    raise UsageError(f"{run} holds no {NAME}: name a folder that `flowrl train` has written (runs/NAME).")


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None


def _refuse_to_overwrite(path: Path) -> None:
    if path.exists() and path.stat().st_size > 0:
        raise UsageError(
            f"{path} already holds the metrics of a run: choose another --name, or continue it with --resume "
            f"{path.parent}."
        )


def _cut(path: Path, offset: int) -> None:
    """Truncate the file to its complete lines within `offset` bytes; it may be shorter, or missing."""
    path.touch()
    with path.open("r+b") as file:
        content = file.read(offset)
        complete = content.rfind(b"\n") + 1
        if len(content) == offset and complete != offset:
            raise UsageError(
                f"{path}: byte {offset}, where the checkpoint stopped, is in the middle of a line, so this "
                "file belongs to another run. Move it away to resume without the earlier metrics."
            )
        file.truncate(complete)
