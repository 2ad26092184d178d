"""metrics.jsonl: one JSON object per iteration, the source of all learning curves."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.contracts.regular_files import open_regular, read_bounded
from flowrl.storage.files import is_stream, unwritable

NAME = "metrics.jsonl"
RECORDED = ("iteration", "env_steps", "seconds", "return_mean")  # what a resumed run reads again
MOST_BYTES = 2 * 10**8  # that are read: 400,000 iterations


class MetricsFile:
    """A reporter that appends one line per iteration and flushes it at once.

    `offset=None` begins a new file. A resumed run gives the `offset` of its checkpoint: everything after it
    (iterations that the resumed run repeats, a line torn by a crash) is cut off, so that an interrupted and an
    uninterrupted run leave the same file. With the `progress` of the checkpoint (iteration, env_steps, seconds)
    `missing` names the iterations that the file has lost, or is ''; `returns` are the mean returns that it holds.

    Raises UsageError when a new run would overwrite the metrics of another, or when the file belongs to another run
    than the checkpoint, and StorageError when the file cannot be written; the file is then unchanged.
    """

    def __init__(self, path: Path, offset: int | None = None, progress: Mapping[str, float] | None = None) -> None:
        self.path = path
        self.missing = ""
        self.returns: list[float] = []
        try:
            if offset is None:
                _refuse_to_overwrite(path)
            else:
                records, complete = _kept(path, offset)
                if progress is not None:
                    _refuse_foreign(path, records, progress)
                    self.missing = _missing(path, records, int(progress["iteration"]))
                self.returns = [record["return_mean"] for record in records if _is_number(record.get("return_mean"))]
                _cut(path, complete)
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
    if is_stream(path):
        raise UsageError(f"{path} is not a file: name the run folder that holds {NAME}.")
    try:
        lines = read_bounded(path, MOST_BYTES).split(b"\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if b"\0" in lines[0]:
        raise UsageError(f"{path} is no text, so it is not a metrics file: name the run folder that holds {NAME}.")
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


def latest(path: Path, until: int | None = None) -> dict[str, float]:
    """Return the last value of every metric in the file; nothing for a file that cannot be read.

    `until` is the iteration after which the run was saved: what a session that failed has written later is left out.
    """
    try:
        records = read(path)
    except UsageError:
        return {}
    if until is not None:
        records = [each for each in records if not _is_number(each.get("iteration")) or each["iteration"] <= until]
    return {name: value for record in records for name, value in record.items() if _is_number(value)}


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


def _kept(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Read the records in the complete lines within the first `offset` bytes, and return them and their length in
    bytes; the file may be shorter, or not exist."""
    if not path.exists():
        return [], 0
    if not path.is_file():
        raise UsageError(f"{path} is not a file. Move it away to resume without the earlier metrics.")
    if min(offset, path.stat().st_size) > MOST_BYTES:
        raise UsageError(
            f"{path} is larger than {MOST_BYTES // 10**6} MB, the most that is read. Move it away to resume without "
            "the earlier metrics."
        )
    with open_regular(path, sys.maxsize) as file:  # a longer file is cut off, but no more is read
        size = min(offset, os.fstat(file.fileno()).st_size, MOST_BYTES)  # `offset` may come from anyone's checkpoint
        content = file.read(size).rstrip(b"\0")  # which a file system may leave after a power cut
    complete = content.rfind(b"\n") + 1
    if len(content) == offset and complete != offset:
        raise _foreign(path, f"byte {offset}, where the checkpoint stopped, is in the middle of a line")
    records = []
    for number, line in enumerate(content[:complete].splitlines(), start=1):
        try:
            record = json.loads(line, parse_constant=lambda _: None)
            records.append({key: record[key] for key in RECORDED if key in record})
        except (ValueError, TypeError, RecursionError):
            raise _foreign(path, f"line {number} is not a JSON object") from None
    return records, complete


def _refuse_foreign(path: Path, records: Sequence[Mapping[str, Any]], progress: Mapping[str, float]) -> None:
    """Raise UsageError unless the last of the `records` can be of the run that has made this `progress`."""
    if not records:
        return
    last = {key: records[-1].get(key) for key in ("iteration", "env_steps", "seconds")}
    if any(value is not None and not _is_number(value) for value in last.values()) or last["iteration"] is None:
        raise _foreign(path, f"line {len(records)} has no iteration")
    known = {key: value for key, value in last.items() if value is not None and key in progress}
    if last["iteration"] == progress["iteration"]:
        fits = all(value == progress[key] for key, value in known.items())
    else:  # a part: as many steps per iteration, and not beyond
        steps = known.get("env_steps", 0) * progress["iteration"]
        fits = all(value <= progress[key] for key, value in known.items())
        fits &= steps in (0, progress.get("env_steps", 0) * known["iteration"])
    if not fits:
        raise _foreign(path, f"line {len(records)} is not what the run had reported when it was saved")


def _missing(path: Path, records: Sequence[Mapping[str, Any]], iteration: int) -> str:
    """Name the iterations from 1 to `iteration` that the `records` do not have; '' when all are there."""
    reported = [int(record["iteration"]) for record in records if _is_number(record.get("iteration"))]
    gaps = [(a + 1, b - 1) for a, b in pairwise([0, *reported, iteration + 1]) if b - a > 1]
    if not gaps:
        return ""
    ranges = ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in gaps[:5])
    more = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
    state = "has lost a part" if reported else "is empty or was lost"
    return f"{path} {state}: the curves of this run lack iterations {ranges}{more}."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _foreign(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path}: {reason}, so this file belongs to another run, or is damaged. Move it away to resume without the "
        "earlier metrics."
    )


def _cut(path: Path, length: int) -> None:
    """Truncate the file to `length` bytes; it is made if it does not exist."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(length)
