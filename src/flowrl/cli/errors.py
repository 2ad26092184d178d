"""Errors become one paragraph on stderr and an exit code; only bugs of ours show a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
import traceback
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from flowrl.contracts.errors import BUG, FlowrlError

USAGE = 2
STORAGE = 6
INTERRUPTED = 130

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def exit_code_of(error: BaseException) -> int:
    """Tell the user about `error` on stderr and return the exit code that belongs to it."""
    if isinstance(error, FlowrlError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        _abandon_stdout()  # whoever read the output has read enough, as `head` does
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if type(error).__name__ == "NoArgsIsHelpError":  # which Typer does not export
        print(error, file=sys.stderr)
        return USAGE
    if isinstance(error, TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "flowrl")
        message = error.format_message().rstrip(".")
        complain(f"{message}{'' if message.endswith('?') else '.'} Type: {command} --help")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        complain("stopped by Ctrl-C.")
        return INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror}. Choose a folder you may write to, or free some space.")
        return STORAGE
    if isinstance(error, OSError) and error.errno in FULL:
        _abandon_stdout()
        complain(f"the output cannot be written: {error.strerror}. Free some space.")
        return STORAGE
    traceback.print_exception(error)
    complain("this is a bug in flowrl: please report it with the lines above.")
    return BUG


def _abandon_stdout() -> None:
    """Send what is still buffered nowhere, or the interpreter would fail on it once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """Print one paragraph on stderr, filled on a terminal only."""
    text = f"flowrl: {message}"
    if sys.stderr.isatty():
        width = min(100, shutil.get_terminal_size().columns)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    print(text, file=sys.stderr)
