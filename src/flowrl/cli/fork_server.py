"""A process that has imported PyTorch and runs flowrl commands in forks of itself, for suites and sweeps.

`python -m flowrl.cli.fork_server FD` reads requests from the socket FD (see experiments/suite/processes.py). It ends
when the socket is closed; commands that still run then go on.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

from flowrl.experiments.signals import STOP_SIGNALS
from flowrl.experiments.suite.processes import END_WITH_PARENT

REQUEST_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1  # of prctl(2)


def serve(channel: socket.socket) -> list[str] | None:
    """Answer requests until the other side closes: None then, and in each fork the arguments of its command."""
    ignored = {number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_IGN}
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    server = os.getpid()
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, _nothing)
    for number in STOP_SIGNALS:  # a signal to all processes must not hide how the commands end
        signal.signal(number, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            with suppress(BlockingIOError):
                woken.recv(4096)
            _tell_ended(channel)
            if channel not in ready:
                continue
            request, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES, 2)
            if not request:
                return None
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # one for the fork waits until it is ready for it
            if os.fork() == 0:
                signal.set_wakeup_fd(-1)
                if END_WITH_PARENT in os.environ:
                    _end_with(server)
                return _begin(json.loads(request), descriptors, ignored, channel)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            for descriptor in descriptors:
                os.close(descriptor)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, so that the signal wakes the selector."""


def _tell_ended(channel: socket.socket) -> None:
    """Send the exit status of every command that has ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            channel.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _end_with(parent: int) -> None:
    """Let the system send SIGTERM to this fork, whose stop signals are blocked, when its `parent` ends (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)


def _begin(
    request: dict[str, Any], descriptors: list[int], ignored: set[signal.Signals], channel: socket.socket
) -> list[str]:
    """Make this fork what a process of its own would be, and return the arguments of its command."""
    os.setsid()
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else default)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    channel.send(json.dumps({"started": os.getpid()}).encode())
    channel.close()
    for place, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]  # as `python -m` sets it
    arguments: list[str] = request["arguments"]
    return arguments


if __name__ == "__main__":
    import torch._dynamo  # noqa: F401  torch.optim imports it

    import flowrl.experiments.evaluate
    import flowrl.experiments.train  # noqa: F401
    from flowrl.cli import main

    words = serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        sys.argv = ["flowrl", *words]
        main(words)
