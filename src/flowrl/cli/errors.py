"""Errors of a command: one paragraph on stderr and an exit code; only bugs of flowrl print a traceback."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import traceback
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from flowrl.cli.output import as_started
from flowrl.contracts.errors import BUG, DISK_ERRORS, FlowrlError, StorageError, UsageError

INTERRUPTED = 130


def exit_code_of(error: BaseException) -> int:
    """Report `error` on stderr and return its exit code."""
    if isinstance(error, FlowrlError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        _discard_stdout()  # the reader closed the pipe, as `head` does
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if type(error).__name__ == "NoArgsIsHelpError":  # which Typer does not export
        print(error, file=sys.stderr)
        return UsageError.exit_code
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
        return StorageError.exit_code
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        _discard_stdout()
        complain(f"the output cannot be written: {error.strerror}. Free some space.")
        return StorageError.exit_code
    traceback.print_exception(error)
    complain("this is a bug in flowrl: please report it with the lines above.")
    return BUG


def _discard_stdout() -> None:
    """Discard what is still buffered for stdout, which the interpreter would fail to write once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """Print one paragraph on stderr, filled on a terminal only."""
    text = f"flowrl: {as_started(message)}"
    if sys.stderr.isatty():
        width = min(100, shutil.get_terminal_size().columns)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    print(text, file=sys.stderr)
