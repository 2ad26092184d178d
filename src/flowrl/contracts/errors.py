"""What can go wrong through no fault of flowrl's code, and the exit code that each becomes.

Every message is one paragraph for the person who made the mistake: what is wrong, where (file, line, key),
why, and what to type instead. `flowrl.cli` prints it and exits with `exit_code`; any other exception is a
bug of ours and exits with 1.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

BUG = 1
"""The exit code of an error that is none of the kinds below: a bug of ours."""


class FlowrlError(Exception):
    """An error that is told to the user in one paragraph."""

    exit_code = BUG


class UsageError(FlowrlError):
    """The command line, the configuration or a name in them is wrong."""

    exit_code = 2


class TrainingDiverged(FlowrlError):
    """A reward, observation, action, loss or gradient stopped being finite."""

    exit_code = 3


class CheckpointError(FlowrlError):
    """A checkpoint is damaged, foreign, or of another model."""

    exit_code = 4


class EnvironmentFailed(FlowrlError):
    """An environment raised, or cannot be made."""

    exit_code = 5


class StorageError(FlowrlError):
    """A file cannot be written: no space, no permission, no such folder."""

    exit_code = 6


class ThresholdMissed(FlowrlError):
    """A result is below the threshold the user asked for."""

    exit_code = 7


class MissingDependency(FlowrlError):
    """An optional dependency is not installed."""

    exit_code = 8


def did_you_mean(name: str, known: Iterable[str], synonyms: dict[str, str] | None = None) -> str:
    """' Did you mean X?' (with a leading space) for the known name nearest to `name`, else ''."""
    known = list(known)
    if synonyms and synonyms.get(name) in known:
        return f" Did you mean {synonyms[name]!r}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def in_one_line(error: BaseException) -> str:
    """An exception with the place that raised it: 'ValueError: too fast (car.py:12)'."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
