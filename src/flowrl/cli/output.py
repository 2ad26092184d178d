"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from flowrl.contracts.notices import say as say
from flowrl.contracts.printable import printable as printable
from flowrl.contracts.printable import printable_lines

GAP = "  "  # between columns
NARROWEST = 24  # characters: a last column with less space is not wrapped


class PrintableOutput:
    """A text stream that shows control characters as escapes: see `flowrl.contracts.printable`.

    Everything but writing is done by the stream behind it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, whose line ends stay."""
        self._stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write every one of `lines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_stdout() -> Iterator[None]:
    """Show control characters on stdout as escapes, in what any code prints there: some of it comes from files."""
    with redirect_stdout(PrintableOutput(sys.stdout)):
        yield


@contextmanager
def passing_line() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows progress on one line of a terminal, which is cleared at the end.

    Each text replaces the previous one. Nothing is shown where stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    try:
        yield lambda text: print(end=f"\r{printable(text)}", file=sys.stderr, flush=True)
    finally:
        print(end="\r\033[K", file=sys.stderr, flush=True)


def next_command(command: str, *arguments: object) -> None:
    """Print the next useful command, `flowrl …`, as the last line on stderr.

    It can be typed as it is: `arguments` are quoted where a shell needs it.
    """
    words = [f"{program()}{command.removeprefix('flowrl')}", *(shlex.quote(str(word)) for word in arguments)]
    say(f"next: {' '.join(words)}")


def program() -> str:
    """Return the command that starts this flowrl: its name if a shell finds it, else the path it was started by."""
    started, found = Path(sys.argv[0]), shutil.which("flowrl")
    if started.name != "flowrl" or (found and Path(found).resolve() == started.resolve()):
        return "flowrl"
    return str(started)


_for_json: TextIO | None = None  # the stdout that `json_alone` keeps for the document


@contextmanager
def json_alone() -> Iterator[None]:
    """Reserve stdout for `print_json`: other output, such as of a third-party sampler, goes to stderr.

    File descriptor 1 is redirected, too: C code and worker processes write to it.
    """
    global _for_json
    with _descriptor_1_to_stderr() as stdout:
        _for_json = stdout
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            _for_json = None


@contextmanager
def _descriptor_1_to_stderr() -> Iterator[TextIO]:
    """Let descriptor 1 be stderr, and yield a stream that writes to what it was before."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield sys.stdout
        return
    try:
        on_1 = sys.stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):  # replaced, as by a test
        on_1 = False
    stream = open(kept, "w", encoding=sys.stdout.encoding, closefd=False) if on_1 else sys.stdout  # noqa: SIM115
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield stream
    finally:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # what C code has buffered
        os.dup2(kept, 1)
        os.close(kept)


def print_json(document: Any) -> None:
    """Print the result as one JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(_finite(document), indent=2, allow_nan=False), file=_for_json or sys.stdout, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Print a header, a rule and `rows` in aligned columns on stdout; columns in `numbers` are right-aligned.

    A column that is empty ('' or '-') in every row is left out. The output on a terminal and in a pipe is the same,
    except that a terminal that is too narrow wraps the last column.
    """
    rows = list(rows)
    places = range(len(columns))
    filled = [place for place in places if any(row[place] not in ("", "-") for row in rows)] or places
    columns, rows = [columns[place] for place in filled], [[row[place] for place in filled] for row in rows]
    # Not by rich: importing it takes 0.1 s, a third of the time of a quick command.
    right = [index for index, column in enumerate(columns) if column in numbers]
    for line in _aligned([columns, *rows], right, ruled=True):
        print(line)


def cell(value: float | None, form: str = ".4g") -> str:
    """Format a number as a cell of a table; '-' for None."""
    return "-" if value is None else format(value, form)


def print_facts(facts: Iterable[tuple[str, str]], heading: str = "") -> None:
    """Print 'name  value' lines on stdout, indented below a heading; a narrow terminal wraps the values."""
    if heading:
        print(printable(heading))
    for line in _aligned(list(facts), indent=GAP if heading else ""):
        print(line)


def _aligned(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), indent: str = "", ruled: bool = False
) -> Iterator[str]:
    """Yield the lines of a table; with `ruled` there is a rule below the first row."""
    if not rows:
        return
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(1, *map(len, column)) for column in zip(*rows, strict=True)]
    room = _terminal_width() - len(indent) - sum(len(GAP) + width for width in widths[:-1])
    if NARROWEST <= room < widths[-1]:
        widths[-1] = room
    if ruled:
        rows.insert(1, ["-" * width for width in widths])
    for *cells, last in rows:
        for piece in textwrap.wrap(last, widths[-1], break_long_words=False, break_on_hyphens=False) or [""]:
            line = [
                cell.rjust(width) if index in right else cell.ljust(width)
                for index, (cell, width) in enumerate(zip([*cells, piece], widths, strict=True))
            ]
            yield (indent + GAP.join(line)).rstrip()
            cells = [""] * len(cells)


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
