"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from flowrl.contracts.notices import program as program
from flowrl.contracts.notices import say as say
from flowrl.contracts.printable import printable as printable
from flowrl.contracts.printable import printable_lines
from flowrl.reporting import text_table


class PipedOutput:
    """A text stream whose reader may close the pipe, as `head` does: what is written then is discarded.

    A command thus ends as with any other reader, with the same exit code.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`."""
        with self._discarding():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._discarding():
            self._stream.flush()

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def discard(stream: TextIO | PrintableOutput) -> None:
    """Discard what is still buffered for `stream`, which the interpreter would fail to write at exit, and the rest."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class PrintableOutput:
    """A text stream that shows control characters as escapes: see `flowrl.contracts.printable`.

    Everything but writing is done by the stream behind it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = PipedOutput(stream)

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
    output = PrintableOutput(sys.stdout)
    try:
        with redirect_stdout(output):
            yield
    except BaseException:
        try:
            output.flush()
        except (OSError, ValueError):  # the error of the command is the one to report
            discard(output)
        raise
    output.flush()  # here, where a full disk still becomes an exit code


def next_command(command: str, *arguments: object) -> None:
    """Print the next useful command, mostly `flowrl …`, as the last line on stderr.

    It can be typed as it is: `arguments` are quoted where a shell needs it.
    """
    begun = f"{program()}{command.removeprefix('flowrl')}" if command.startswith("flowrl") else command
    words = [begun, *(shlex.quote(str(word)) for word in arguments)]
    say(f"next: {' '.join(words)}", wrap=False)


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
            with redirect_stdout(PrintableOutput(sys.stderr)):
                yield
        finally:
            _for_json = None


def document_descriptor() -> int | None:
    """Return the file descriptor that `json_alone` keeps for the document, for a process that prints it; or None."""
    with suppress(OSError, ValueError, AttributeError):
        return None if _for_json is None else _for_json.fileno()
    return None


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
    stream: Any = sys.stdout
    if on_1:
        stream = PipedOutput(open(kept, "w", encoding=sys.stdout.encoding, closefd=False))  # noqa: SIM115
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


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = (), keys: Collection[str] = ()
) -> None:
    """Print a header, a rule and `rows` in aligned columns on stdout; columns in `numbers` are right-aligned.

    A column that is empty ('' or '-') in every row is left out. A terminal that is too narrow gets the layout of
    `flowrl.reporting.text_table`, with the columns `keys`, the first ones, identifying a row (default: the first).
    In a pipe a row is one line, whatever its length.
    """
    rows = list(rows)
    places = range(len(columns))
    filled = [place for place in places if any(row[place] not in ("", "-") for row in rows)] or places
    columns, *rows = ([printable(row[place]) for place in filled] for row in (columns, *rows))
    right = [index for index, column in enumerate(columns) if column in numbers]
    identifying = sum(column in keys for column in columns) or 1
    for line in text_table.lines(columns, rows, right, keys=identifying, width=_terminal_width()):
        print(line)


def cell(value: float | None, form: str = ".4g") -> str:
    """Format a number as a cell of a table; '-' for None."""
    return "-" if value is None else format(value, form)


def print_facts(facts: Iterable[tuple[str, str]], heading: str = "") -> None:
    """Print 'name  value' lines on stdout, indented below a heading; a narrow terminal wraps the values."""
    if heading:
        print(printable(heading))
    pairs = [(printable(name), printable(value)) for name, value in facts]
    for line in text_table.facts(pairs, indent=text_table.GAP if heading else "", width=_terminal_width()):
        print(line)


def print_line(line: str) -> None:
    """Print a line on stdout, such as one of YAML; a narrow terminal wraps it between words, indented."""
    text = printable(line)
    indent = text[: len(text) - len(text.lstrip())] + 2 * text_table.GAP
    print(text_table.paragraph(text, _terminal_width(), indent))


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
