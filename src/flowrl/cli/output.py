"""What a command prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import sys
from typing import Any


def say(line: str) -> None:
    """A line for the person watching (stderr), such as progress or where a file was written."""
    print(line, file=sys.stderr, flush=True)


def next_command(command: str) -> None:
    """The next useful command, printed as the last line on stderr."""
    say(f"next: {command}")


def print_json(document: Any) -> None:
    """The whole result as one JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout, as wide as it needs to be when stdout is not a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
