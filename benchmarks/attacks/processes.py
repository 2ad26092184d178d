"""Run `flowrl` commands in forked processes that have torch imported already, under a limit of time."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ALLOWED = {0, 2, 3, 4, 5, 6, 7, 8, 129, 130, 143}
"""The exit codes that say something; 1 is a bug of ours."""


@dataclass
class Outcome:
    """How a command ended."""

    code: int  # the exit code, or minus the signal that ended it
    seconds: float
    megabytes: float  # the most memory that it held
    timed_out: bool
    output: str  # stdout and stderr
    most_megabytes: float = 1024.0  # that it may hold

    @property
    def fault(self) -> str:
        """What is wrong with it, or an empty string."""
        if self.timed_out:
            return "hangs"
        if "Traceback (most recent call last)" in self.output:
            return "traceback"
        if self.code not in ALLOWED:
            return f"exit code {self.code}"
        if self.megabytes > self.most_megabytes:
            return f"{self.megabytes:.0f} MB"
        return ""


def warm_up() -> None:
    """Import what every command needs, so that a fork has it."""
    import torch

    torch.set_num_threads(1)
    from flowrl.envs import factory  # noqa: F401
    from flowrl.experiments import evaluate, play, train  # noqa: F401


def flowrl(
    arguments: list[str],
    folder: Path,
    limit_s: float = 60.0,
    stop_s: float | None = None,
    most_megabytes: float = 1024.0,
) -> Outcome:
    """Run `flowrl ARGUMENTS` in `folder`, in a process group of its own that ends with it.

    It gets SIGTERM after `stop_s` seconds, if given, once more 20 seconds later, and is killed after `limit_s`.
    """
    log = folder / ".output"
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.argv = ["flowrl", *arguments]
            from flowrl.cli import run

            code = run(arguments)
        except BaseException as error:
            os.write(2, f"escaped from the command line: {error!r}".encode())
        finally:
            os._exit(code)
    timed_out, stops = False, [] if stop_s is None else [stop_s, stop_s + 20]
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if stops and time.monotonic() - begin > stops[0]:
            del stops[0]
            os.kill(child, signal.SIGTERM)
        if time.monotonic() - begin > limit_s and not timed_out:
            timed_out = True
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:  # it has not got a process group of its own yet
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    seconds = time.monotonic() - begin
    code = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024
    output = log.read_bytes().decode(errors="replace")
    return Outcome(code, seconds, usage.ru_maxrss * scale / 2**20, timed_out, output, most_megabytes)


def own_megabytes() -> float:
    """The memory that every forked process begins with."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**20
