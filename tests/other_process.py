"""Other processes: several `flowrl` commands in one, which imports torch once, and the descendants of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PROGRAM = """
import contextlib, io, json, sys
from flowrl.cli import run
results = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(arguments)
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


class Finished(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def flowrl(
    commands: Sequence[Sequence[str]], folder: Path, prelude: str = "", variables: Mapping[str, str] | None = None
) -> list[Finished]:
    """Run `commands` in `folder`, after the Python code `prelude`, with further environment variables."""
    done = subprocess.run(
        [sys.executable, "-c", prelude + PROGRAM],
        input=json.dumps([list(arguments) for arguments in commands]),
        cwd=folder,
        env=os.environ | dict(variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Finished(*result) for result in json.loads(done.stdout)]


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [each for child in children for each in (child, *descendants(child))]
