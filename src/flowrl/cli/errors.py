"""Errors of a command: one paragraph on stderr and an exit code; only bugs of flowrl print a traceback."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import textwrap
import traceback
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from flowrl.cli.output import discard
from flowrl.contracts import notices
from flowrl.contracts.errors import (
    BUG,
    DISK_ERRORS,
    FlowrlError,
    ReportedElsewhere,
    StorageError,
    UsageError,
    stop_behind,
)
from flowrl.contracts.notices import as_started
from flowrl.contracts.printable import printable, printable_lines

INTERRUPTED = 130
LINE_END = re.compile(r"[ \t\r]*\n\s*")

ALLOCATION_REFUSED = (
    *("can't allocate memory", "out of memory", "Storage size calculation overflowed", "bad_alloc"),
    *("Cannot allocate memory", "can't start new thread", "numel: integer multiplication overflow"),
)
"""Words in the RuntimeErrors of PyTorch, and of Python's threads, for an allocation that failed."""


def exit_code_of(error: BaseException) -> int:
    """Report `error` on stderr and return its exit code."""
    if (stopped := stop_behind(error)) is not None and notices.muted():
        return stopped.exit_code
    if stopped is not None:
        complain(str(stopped))
        return stopped.exit_code
    if isinstance(error, ReportedElsewhere):
        return error.exit_code
    if isinstance(error, FlowrlError):
        complain(str(error))
        return error.exit_code
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # which Click has replaced
    if isinstance(error, SystemExit) and _is_of_the_command_line(error):
        return error.code if isinstance(error.code, int) else BUG
    if type(error).__name__ == "NoArgsIsHelpError":  # which Typer does not export
        print(printable_lines(str(error)), file=sys.stderr)
        return UsageError.exit_code
    if isinstance(error, TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "flowrl")
        message = error.format_message().rstrip(".")
        complain(f"{message}{'' if message.endswith('?') else '.'} Type: {command} --help")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        complain("stopped by SIGINT (Ctrl-C).")
        return INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename)
        complain(f"{name}: {error.strerror}. Choose a folder you may write to, or free some space.")
        return StorageError.exit_code
    if isinstance(error, OSError) and error.errno == errno.EAGAIN and "write" in str(error):
        discard(sys.stdout)
        complain(f"the output cannot be written: {error.strerror}. Write it to a file, or to a pipe that is read.")
        return StorageError.exit_code
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        discard(sys.stdout)
        complain(f"the output cannot be written: {error.strerror}. Free some space.")
        return StorageError.exit_code
    if (reason := memory_error(error)) is not None:
        complain(reason)
        return UsageError.exit_code
    print(printable_lines("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    complain("this is a bug in flowrl: please report it with the lines above.")
    return BUG


def _is_of_the_command_line(error: SystemExit) -> bool:
    """Return whether Typer or Click raised `error`, as after a completion; from any other code it is a fault."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).partition(".")[0] in ("typer", "click")


def memory_error(error: BaseException) -> str | None:
    """Return a paragraph for an error of an allocation that failed; None for any other error."""
    text = " ".join(str(error).split())
    refused = isinstance(error, RuntimeError) and any(words in text for words in ALLOCATION_REFUSED)
    refused = refused or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    # fork(2) fails with EAGAIN, as does a write to an output that does not wait.
    refused = refused or (isinstance(error, BlockingIOError) and "write" not in text)
    if not refused and not isinstance(error, MemoryError):
        return None
    return (
        f"the memory does not suffice{f' ({textwrap.shorten(text, 200)})' if text else ''}. It grows with env.count, "
        "rollout.steps, learner.probes.count, learner.microbatch and the widths in policy.hidden and "
        "learner.critic.hidden, and for videos with --size: choose less of one of them."
    )


def complain(message: str) -> None:
    """Print one paragraph on stderr, filled on a terminal only; control characters in it are shown as escapes."""
    text = printable(f"flowrl: {LINE_END.sub(' ', as_started(message.strip()))}")
    if sys.stderr.isatty():
        width = min(100, shutil.get_terminal_size().columns)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    with suppress(OSError):  # the terminal has been closed
        print(text, file=sys.stderr, flush=True)
