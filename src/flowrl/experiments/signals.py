"""Stop signals: SIGINT, SIGTERM and SIGHUP end a command in order, and let a training save itself first."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from flowrl.contracts.errors import Stopped
from flowrl.contracts.notices import say

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME_REQUEST_S = 0.5
"""Seconds in which further signals belong to the same request: systemd and Slurm signal every process of a job at
once, so that a trial of a suite gets one from them and one from its suite."""


class StopSignal:
    """A context in which stop signals are recorded instead of ending the process.

    `handler` is called at every one of them with this object, between two instructions of the main thread; what it
    raises is raised there. SIGHUP stays ignored where it was, as under nohup. A signal that an enclosing context has
    recorded, and whose Stopped some library then swallowed, counts as the first of this one.
    """

    def __init__(self, handler: Callable[[StopSignal], None] | None = None) -> None:
        self.signal: signal.Signals | None = None  # the first
        self.last: signal.Signals | None = None
        self.count = 0  # of requests: see SAME_REQUEST_S
        self._taken = 0
        self._process = os.getpid()
        self._at = 0.0  # seconds of the monotonic clock, when the last request came
        self._handler = handler
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            with suppress(ValueError):  # signals can be caught in the main thread only
                self._previous[number] = signal.signal(number, self._record)
        for previous in self._previous.values():
            if isinstance(outer := getattr(previous, "__self__", None), StopSignal) and outer.signal is not None:
                self.signal, self.last, self.count, self._at = outer.signal, outer.last, 1, outer._at
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def take(self) -> int:
        """Return the number of requests since the last call, for a loop that polls."""
        fresh, self._taken = self.count - self._taken, self.count
        return fresh

    def _record(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that an environment or this run has forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if self.signal is not None and now - self._at < SAME_REQUEST_S:
            return
        self.last = signal.Signals(number)
        self.signal = self.signal or self.last
        self.count += 1
        self._at = now
        if self._handler is not None:
            self._handler(self)


@contextmanager
def raising() -> Iterator[None]:
    """Raise Stopped in the main thread at the first stop signal, and end the process at the second.

    Modules written in C may swallow that Stopped while they are imported and fail for want of what they did not load:
    an error after a signal is raised as Stopped.
    """
    hook = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):  # raised in a destructor, where it would be lost
            _quit(unraisable.exc_value)
        hook(unraisable)

    sys.unraisablehook = report
    try:
        with StopSignal(_raise) as stop:
            try:
                yield
            except Exception as error:
                if stop.signal is None:
                    raise
                raise Stopped(stop.signal) from error
    finally:
        sys.unraisablehook = hook


def _raise(stop: StopSignal) -> None:
    assert stop.last is not None  # noqa: S101  for the type checker
    if stop.count > 1:
        _quit(Stopped(stop.last))
    raise Stopped(stop.last)


def _quit(stopped: Stopped) -> None:
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: the signal came while stderr was being written
        say(f"flowrl: {stopped}")
    os._exit(stopped.exit_code)
