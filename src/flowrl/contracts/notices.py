"""Notices: lines on stderr that are no results."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

from flowrl.contracts.printable import printable

_COMMANDS = (
    "train|eval|export|bench-latency|fit-sampler|distil|samplers|envs|new|motions|suite|sweep|compare|play|view|plot|"
    "ratio|inspect|doctor"
)
_NAMED_COMMAND = re.compile(rf"(?<![\w./~-])flowrl(?= (?:{_COMMANDS})\b)")


_muted = False


def mute() -> None:
    """Let `say` print nothing in this process, for one that works for another."""
    global _muted
    _muted = True


def muted() -> bool:
    """Return whether this process prints nothing."""
    return _muted


def say(line: str, *, wrap: bool = True) -> None:
    """Print one line to stderr, such as progress or the path of a written file.

    A terminal that is too narrow gets it wrapped between words, unless `wrap` is false, as for a command to be copied.
    """
    if _muted:
        return
    text = printable(as_started(line))
    with suppress(OSError, ValueError):  # the terminal has been closed
        if wrap and sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            wrapped = textwrap.wrap(
                text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
            text = "\n".join(wrapped) or text
        print(text, file=sys.stderr, flush=True)


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
