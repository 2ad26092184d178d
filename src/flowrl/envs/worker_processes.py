"""The worker processes of `env.mode=async`: only their run ends them.

A terminal, systemd or Slurm sends a stop signal to every process of a job. The run then finishes its iteration and
saves, for which it needs its workers: they ignore the signal. They end when the run closes them, and with the run.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing.util  # before `atexit.register`: its own exit function must run after ours
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess

PR_SET_PDEATHSIG = 1  # of prctl(2), Linux


def become_worker() -> None:
    """Ignore stop signals in this worker process, and let it end with its parent: at once on Linux, elsewhere when it
    next waits for a command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Unlike SIG_IGN, programs that an environment starts do not inherit it: SIGTERM ends them."""


@contextmanager
def killed_on_failure() -> Iterator[None]:
    """Kill the worker processes that were started within this context when it fails."""
    before = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        kill(set(multiprocessing.active_children()) - before)
        raise


def kill(processes: Iterable[BaseProcess]) -> None:
    """Kill worker processes, which ignore SIGTERM, also those that SIGSTOP has stopped; wait for their end."""
    processes = list(processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


@atexit.register
def _kill_remaining() -> None:
    """Kill the workers that are left at the exit: multiprocessing would send them SIGTERM, and wait forever."""
    kill(process for process in multiprocessing.active_children() if process.daemon)
