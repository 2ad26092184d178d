"""`flowrl train --processes`: the processes of one training on this machine, started, watched and ended together."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flowrl.contracts.errors import ProcessLost
from flowrl.contracts.notices import say
from flowrl.experiments import ranks
from flowrl.experiments.signals import StopSignal

POLL_S = 0.05
LEAVING_S = 20.0  # the longest time in which the others end by themselves when one has ended
KILL_S = 10.0  # the same after the second signal


class Launch:
    """The processes of one attempt at a training."""

    def __init__(
        self, words: Sequence[str], processes: int, attempt: int, folder: Path | None, stdout: int | None
    ) -> None:
        """Start `flowrl` with the `words` in so many processes, the first one with `stdout`; `folder` is the run folder
        of an attempt before."""
        self._folder, folder_end = os.pipe()
        os.set_blocking(self._folder, False)
        self._read = b""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            shared = {
                "WORLD_SIZE": processes,
                "LOCAL_WORLD_SIZE": processes,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": listener.getsockname()[1],
                ranks.LAUNCHER: os.getpid(),
                ranks.RESTARTS: attempt,
                **({} if folder is None else {ranks.RESTARTED: folder}),
            }
            self.processes: list[subprocess.Popen[bytes]] = []
            for number in range(processes):
                first = {ranks.LISTENER: listener.fileno(), ranks.FOLDER: folder_end} if number == 0 else {}
                own = shared | {"RANK": number, "LOCAL_RANK": number} | first
                self.processes.append(
                    subprocess.Popen(  # noqa: S603
                        [sys.executable, "-m", "flowrl", *words],
                        stdin=subprocess.DEVNULL,
                        stdout=stdout if number == 0 else None,
                        env=os.environ | {name: str(value) for name, value in own.items()},
                        pass_fds=list(first.values()),
                        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
                    )
                )
        os.close(folder_end)

    @property
    def folder(self) -> Path | None:
        """The run folder, once the first process has said it."""
        with suppress(BlockingIOError):
            self._read += os.read(self._folder, 1 << 16)
        text = self._read.decode().strip()
        return Path(text) if text else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all processes that have not ended."""
        for process in self.processes:
            process.send_signal(number)

    def wait(self, stop: StopSignal) -> None:
        """Wait until all have ended. Where one has failed, or the user has asked twice, the others are killed if they
        do not end by themselves."""
        limit: float | None = None
        while any(process.poll() is None for process in self.processes):
            now = time.monotonic()
            if limit is None and stop.count > 1:
                limit = now + KILL_S
            elif limit is None and any(process.returncode for process in self.processes):
                limit = now + LEAVING_S
            if limit is not None and now > limit:
                self.send(signal.SIGKILL)
            time.sleep(POLL_S)

    @property
    def killed(self) -> tuple[int, signal.Signals] | None:
        """The first process that a signal has ended, and the signal; None where none was."""
        for number, process in enumerate(self.processes):
            if process.returncode < 0:
                return number, signal.Signals(-process.returncode)
        return None

    @property
    def exit_code(self) -> int:
        """The exit code of the first process, or that of another where the first one has none."""
        return next((process.returncode for process in self.processes if process.returncode > 0), 0)

    def close(self) -> None:
        """Close what belongs to this attempt; processes that still run are killed."""
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        os.close(self._folder)


def run(
    words: Sequence[str], processes: int, restarts: int, code: Sequence[str] = (), stdout: int | None = None
) -> int:
    """Train with `flowrl` and these `words` in so many processes, the first of which prints its results to the file
    descriptor `stdout` (None: that of this process), and return the exit code.

    Where a process is killed, or one fails as with its environment, all begin again from the last checkpoint, at most
    `restarts` times. Raises ProcessLost, with the signal and the command to continue, in which the options `code` name
    the user's code, where a process was killed once more than that; UsageError unless `processes` is a power of two.
    """
    ranks.check_power(processes, f"--processes {processes}")
    folder: Path | None = None
    launched: list[Launch] = []

    def pass_on(stop: StopSignal) -> None:
        assert stop.last is not None  # noqa: S101  for the type checker
        for launch in launched:
            launch.send(stop.last)

    with StopSignal(pass_on) as stop:
        for attempt in range(restarts + 1):
            launch = Launch(words, processes, attempt, folder, stdout)
            launched[:] = [launch]
            try:
                if stop.signal is not None:  # it came before there was a process to pass it on to
                    launch.send(stop.signal)
                launch.wait(stop)
                folder = launch.folder or folder
            finally:
                launch.close()
            if stop.signal is not None:
                return launch.exit_code or (128 + stop.signal.value if launch.killed else 0)
            if launch.killed is None and launch.exit_code != ProcessLost.exit_code:
                return launch.exit_code
            if attempt < restarts:
                say(f"{_cause(launch)}: starting all of them again (restart {attempt + 1} of {restarts}).")
    if launch.killed is None:  # the first process has printed why
        return launch.exit_code
    resumed = shlex.join(["flowrl", "train", "--resume", str(folder), *code, "--processes", str(processes)])
    again = "" if folder is None else f" To continue, type: {resumed}"
    raise ProcessLost(f"{_cause(launch)}, and the others ended with it.{again}")


def _cause(launch: Launch) -> str:
    count = len(launch.processes)
    if launch.killed is None:
        return f"one of {count} processes failed"
    number, sent = launch.killed
    memory = " (out of memory?)" if sent == signal.SIGKILL else ""
    return f"rank {number} of {count} processes was ended by {sent.name}{memory}"
