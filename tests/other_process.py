"""Other processes: `flowrl` commands in new ones and in forks of this one, and the descendants of a process."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from flowrl.cli import run
from flowrl.envs import factory  # noqa: F401  imported once, for all forked commands
from flowrl.experiments import evaluate, play, train  # noqa: F401
from flowrl.experiments.suite import processes

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


class Fork:
    """A function in a forked process that leads a group of its own: torch is imported already.

    The exit code is what the function returns, if that is a number. A suite in it starts its trials from a server of
    its own, unless it is `sharing` that of this process.
    """

    def __init__(self, folder: Path, function: Callable[[], object], sharing: bool = False) -> None:
        self._out, self._err = folder / ".stdout", folder / ".stderr"
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                os.setsid()
                os.chdir(folder)
                for number, file in ((1, self._out), (2, self._err)):
                    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                faulthandler.register(signal.SIGUSR1, file=2)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
                signal.signal(signal.SIGINT, signal.default_int_handler)
                if not sharing:
                    processes._servers.clear()
                returned = function()
                sys.stdout.flush()
                code = returned if isinstance(returned, int) else 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until `condition` holds; fails when the command ends, or after `seconds`."""
        limit = time.monotonic() + seconds
        while not condition():
            assert self.running, self._err.read_text()
            if time.monotonic() > limit:
                pytest.fail(f"not seen within {seconds} s: {self._stuck()}")
            time.sleep(0.02)

    def finish(self, seconds: float = 100) -> Finished:
        """Wait for the end; kills the command and fails after `seconds`."""
        limit = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > limit:
                stuck = self._stuck()
                os.killpg(self.pid, signal.SIGKILL)
                pytest.fail(f"still running: {stuck}")
            time.sleep(0.02)
        _, status = os.waitpid(self.pid, 0)
        said = [file.read_text() for file in (self._out, self._err)]
        for file in (self._out, self._err):
            file.unlink()
        return Finished(os.waitstatus_to_exitcode(status), *said)

    def _stuck(self) -> str:
        """What it has written on stderr, and where each of its threads is."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.5)
        return self._err.read_text()

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Wait for the end; the exit code and the text on stderr."""
        code, _, errors = self.finish(seconds)
        return code, errors


class Command(Fork):
    """`flowrl words` in such a process, where `before` is called first."""

    def __init__(
        self, folder: Path, *words: str, before: Callable[[], object] = lambda: None, sharing: bool = False
    ) -> None:
        def command() -> int:
            before()
            return run(list(words))

        super().__init__(folder, command, sharing)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [each for child in children for each in (child, *descendants(child))]
