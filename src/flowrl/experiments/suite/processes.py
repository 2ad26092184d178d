"""Processes that run flowrl commands without importing PyTorch each time: forks of one server, cli/fork_server.py.

A process has the attributes of `subprocess.Popen` that suites and sweeps use. It is a session of its own, so Ctrl-C
does not reach it, and it outlives the process that started it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

POLL_S = 0.02
MESSAGE_BYTES = 4096
END_WITH_PARENT = "FLOWRL_END_WITH_PARENT"
"""The environment variable under which commands get SIGTERM when the process that has started them ends (Linux)."""


class ForkServer:
    """The server, which begins with the environment variables `variables`. Raises OSError when it cannot be started."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._codes: dict[int, int] = {}
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "flowrl.cli.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=variables,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._server.poll() is None

    def start(self, arguments: Sequence[str], stdout: int, stderr: int) -> int:
        """Start a command in the current folder; returns its process id. Raises OSError when the server has ended."""
        request = json.dumps({"arguments": list(arguments), "folder": str(Path.cwd())}).encode()
        socket.send_fds(self._channel, [request], [stdout, stderr])
        while True:
            started = self._receive()
            if started is not None:
                return started

    def code(self, pid: int) -> int | None:
        """Return the exit code of a command, negative after a signal, or None while it runs.

        A command whose server was killed is killed as well: nobody could tell how it ended.
        """
        with suppress(BlockingIOError):
            while pid not in self._codes:
                try:
                    self._receive(socket.MSG_DONTWAIT)
                except ConnectionError:
                    with suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                    self._codes[pid] = -signal.SIGKILL
        return self._codes.get(pid)

    def _receive(self, flags: int = 0) -> int | None:
        """Take a message: the id of a process that was started, or None for one that has ended."""
        message = self._channel.recv(MESSAGE_BYTES, flags)
        if not message:
            raise ConnectionError("the process that starts the trials was killed")
        content: dict[str, int] = json.loads(message)
        if "started" in content:
            return content["started"]
        self._codes[content["ended"]] = content["code"]
        return None

    def close(self) -> None:
        """Let the server end; its commands go on."""
        self._channel.close()
        self._server.wait()


class ForkedProcess:
    """A running command, as `subprocess.Popen` describes one."""

    def __init__(self, server: ForkServer, pid: int, stdout: BinaryIO | None) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int = 0  # once it has ended
        self._server = server
        self._ended = False

    def poll(self) -> int | None:
        """Return the exit code, negative after a signal, or None while the process runs."""
        if not self._ended:
            code = self._server.code(self.pid)
            if code is None:
                return None
            self.returncode, self._ended = code, True
        return self.returncode

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        while self.poll() is None:
            time.sleep(POLL_S)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


_servers: dict[tuple[tuple[str, str], ...], ForkServer] = {}


def start(
    arguments: Sequence[str], variables: Mapping[str, str], stderr: BinaryIO, stdout: BinaryIO | None = None
) -> ForkedProcess | subprocess.Popen[bytes]:
    """Start `flowrl` with `arguments` and the environment `variables`, its output in a pipe unless `stdout` is given.

    Commands with equal variables come from one server, which lives as long as this process. On other systems than
    Linux, where a process that has loaded libraries may not be able to fork, each is started by itself. Raises OSError.
    """
    if not sys.platform.startswith("linux"):
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "flowrl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=True,
        )
    key = tuple(sorted(variables.items()))
    if key not in _servers or not _servers[key].alive:
        _servers[key] = ForkServer(variables)
    server = _servers[key]
    if stdout is not None:
        return ForkedProcess(server, server.start(arguments, stdout.fileno(), stderr.fileno()), None)
    reading, writing = os.pipe()
    try:
        pid = server.start(arguments, writing, stderr.fileno())
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return ForkedProcess(server, pid, os.fdopen(reading, "rb"))
