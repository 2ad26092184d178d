"""metrics.jsonl: one JSON object per iteration, what every curve is drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import UsageError
from flowrl.storage.files import unwritable

NAME = "metrics.jsonl"


class MetricsFile:
    """A reporter that appends one line per iteration and flushes it at once.

    `offset=None` begins a new file. A resumed run gives the `offset` that its checkpoint recorded: whatever
    was written after it (iterations that the resumed run repeats, a line torn by a crash) is cut off, so that
    an interrupted and an uninterrupted run leave the same file.

    Raises UsageError when a new run would overwrite another's metrics, or when `offset` is not the end of a
    line (the file belongs to another run); StorageError when the file cannot be written.
    """

    def __init__(self, path: Path, offset: int | None = None) -> None:
        self.path = path
        self.missing = 0  # bytes that the checkpoint knew of and the file has lost (a deleted or older file)
        try:
            if offset is None:
                _refuse_to_overwrite(path)
            else:
                self.missing = _cut(path, offset)
            self._file = path.open("ab")
        except OSError as error:
            raise unwritable(path, error) from error

    @property
    def offset(self) -> int:
        """Length of the file in bytes after the last line: what a checkpoint records."""
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
        """Close the file; every line is already on its way to the disk."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Every iteration of a metrics file, in order; a null becomes None.

    The last line may be torn (the run is being written, or was killed): it is left out. Anything else that is
    not a JSON object per line raises UsageError with file and line.
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
                f"{path}, line {number}: not one JSON object, so this is not a metrics file of flowrl, or "
                f"it is damaged. Delete that line, or name the run folder that holds {NAME}."
            ) from error
        records.append(record)
    return records


def find(run: Path) -> Path:
    """The metrics file of a run folder (or the file itself); UsageError, with what to type, without one."""
    if run.is_file():
        return run
    if not run.exists():
        raise UsageError(f"there is no run {run}: name a folder that `flowrl train` has written (runs/NAME).")
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


def _cut(path: Path, offset: int) -> int:
    """Truncate the file to `offset` bytes; the number of bytes that it is short of that."""
    path.touch()
    with path.open("r+b") as file:
        content = file.read(offset)
        whole = content.rfind(b"\n") + 1
        if len(content) == offset and whole != offset:
            raise UsageError(
                f"{path}: byte {offset}, where the checkpoint stopped, is in the middle of a line, so this "
                "file belongs to another run. Move it away to resume without the earlier metrics."
            )
        file.truncate(whole)
    return offset - whole
