"""Write tables as CSV, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowrl.storage import files


def check(path: Path) -> None:
    """Raise UsageError unless `path` ends in .csv or is a pipe or device, StorageError if it cannot be written."""
    if not files.is_stream(path):
        files.check_suffix(path, "--csv", "tables", (".csv",))
    files.check(path, "--csv")


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write `rows`, which have the same keys, one to a line under a header; the folder is created if need be.

    An interval such as `return_ci95` becomes the two columns `return_ci95_low` and `return_ci95_high`; None becomes an
    empty field. Raises StorageError when the file cannot be written.
    """
    lines = [dict(_cells(row)) for row in rows]
    columns = dict.fromkeys(name for line in lines for name in line)
    with files.replacing(path, "--csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(lines)


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name.endswith("_ci95"):
            yield from zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True)
        else:
            yield name, value
