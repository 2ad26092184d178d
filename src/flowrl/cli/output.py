"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from flowrl.reporting import text_table


def say(line: str) -> None:
    """Print a line to stderr, such as progress or the path of a written file."""
    print(as_started(line), file=sys.stderr, flush=True)


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


def as_started(text: str) -> str:
    """Replace 'flowrl' in the commands that `text` names by the command that starts this flowrl."""
    started = program()
    return text if started == "flowrl" else _NAMED_COMMAND.sub(lambda match: started, text)


_COMMANDS = "train|eval|bench-latency|samplers|envs|motions|suite|compare|play|plot|inspect|doctor"
_NAMED_COMMAND = re.compile(rf"(?<![\w./~-])flowrl(?= (?:{_COMMANDS})\b)")

_for_json: TextIO | None = None  # the stdout that `json_alone` keeps for the document


@contextmanager
def json_alone() -> Iterator[None]:
    """Reserve stdout for `print_json`: other output, such as of a third-party sampler, goes to stderr."""
    global _for_json
    _for_json = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _for_json = None


def print_json(document: Any) -> None:
    """Print the result as one JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(_finite(document), indent=2, allow_nan=False), file=_for_json or sys.stdout)


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


def printable(text: str) -> str:
    """Replace the control characters of `text`, which may come from a file or a third-party package."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
