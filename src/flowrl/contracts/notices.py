"""Notices: lines on stderr that are no results."""

from __future__ import annotations

import sys
from contextlib import suppress

from flowrl.contracts.printable import printable


def say(line: str) -> None:
    """Print one line to stderr, such as progress or the path of a written file."""
    with suppress(OSError):  # the terminal has been closed
        print(printable(line), file=sys.stderr, flush=True)
