"""Errors become one paragraph on stderr and an exit code; only bugs of ours show a traceback."""

from __future__ import annotations

import sys
import textwrap
import traceback

import typer
from typer.exceptions import TyperException

from flowrl.errors import FlowrlError

BUG = 1
USAGE = 2
STORAGE = 6
INTERRUPTED = 130


def exit_code_of(error: BaseException) -> int:
    """Tell the user about `error` on stderr and return the exit code that belongs to it."""
    if isinstance(error, FlowrlError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if isinstance(error, TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "flowrl")
        complain(f"{error.format_message().rstrip('.')}. Type: {command} --help")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        complain("stopped by Ctrl-C.")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return 0
    if isinstance(error, OSError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror}. Choose a folder you may write to, or free some space.")
        return STORAGE
    traceback.print_exception(error)
    complain("this is a bug in flowrl: please report it with the lines above.")
    return BUG


def complain(message: str) -> None:
    """Print one paragraph on stderr, wrapped to 100 columns on a terminal only."""
    text = f"flowrl: {message}"
    print(textwrap.fill(text, 100, break_long_words=False) if sys.stderr.isatty() else text, file=sys.stderr)
