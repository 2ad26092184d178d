"""Errors that are not bugs of flowrl, with the exit code of each.

Every message is one paragraph for the person who made the mistake: what is wrong, where (file, line, key),
why, and what to type instead. `flowrl.cli` prints it and exits with `exit_code`; any other exception is a
bug of flowrl and exits with 1.
"""

from __future__ import annotations

import difflib
import errno
import signal
import traceback
from collections.abc import Iterable
from pathlib import Path

BUG = 1
"""The exit code of an error that is none of those below: a bug of flowrl."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Error numbers of a write that the disk refuses, whatever the file: free space is likely to help."""


class FlowrlError(Exception):
    """An error that is reported to the user in one paragraph, without a traceback."""

    exit_code = BUG


class UsageError(FlowrlError):
    """The command line, the configuration or a name in them is wrong."""

    exit_code = 2


class TrainingDiverged(FlowrlError):
    """A reward, observation, action, loss or gradient is no longer finite."""

    exit_code = 3


class CheckpointError(FlowrlError):
    """A checkpoint is damaged, foreign, or of another model."""

    exit_code = 4


class EnvironmentFailed(FlowrlError):
    """An environment cannot be created, or raised an exception."""

    exit_code = 5


class ProcessLost(FlowrlError):
    """Another process of the same training has ended, or does not answer."""

    exit_code = 5

    def __init__(self, message: str, exit_code: int = 5) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ReportedElsewhere(FlowrlError):
    """An error that another process of the same training reports: nothing is printed here."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process reports why")
        self.exit_code = exit_code


class StorageError(FlowrlError):
    """A file cannot be written: no space, no permission, no such folder."""

    exit_code = 6


class ThresholdMissed(FlowrlError):
    """A result is below the threshold that the user set."""

    exit_code = 7


class MissingDependency(FlowrlError):
    """An optional dependency is not installed."""

    exit_code = 8


class Stopped(BaseException):  # like KeyboardInterrupt, so that no `except Exception` catches it
    """A stop signal ended what was running."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The exit code of a process that this signal ended, as in a shell: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal.value

    def __str__(self) -> str:
        return f"stopped by {'SIGINT (Ctrl-C)' if self.signal == signal.SIGINT else self.signal.name}."


def stop_behind(error: BaseException | None) -> Stopped | None:
    """Return the stop signal that led to `error`, which code in between may have replaced by its own."""
    seen: set[int] = set()
    current = error
    while current is not None and id(current) not in seen:
        if isinstance(current, Stopped):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def did_you_mean(name: str, known: Iterable[str], synonyms: dict[str, str] | None = None) -> str:
    """Return " Did you mean 'X'?" (with a leading space) for the `known` name nearest to `name`, or ''."""
    known = list(known)
    if synonyms and synonyms.get(name) in known:
        return f" Did you mean {synonyms[name]!r}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def shortened(text: str, most: int = 600) -> str:
    """Return `text` of at most about `most` characters: of a longer one the beginning and the end."""
    return text if len(text) <= most else f"{text[: most - 100]} […] {text[-100:]}"


def in_one_line(error: BaseException) -> str:
    """Return the type, message and origin of `error`: 'ValueError: too fast (car.py:12)'."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = shortened(" ".join(str(error).split()))
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
