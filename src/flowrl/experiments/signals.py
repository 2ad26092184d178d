"""Stop signals, recorded so that a process can finish what it is doing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any


class StopSignal:
    """A context in which SIGINT and `others` are recorded instead of ending the process.

    `handler` is called at every one of them with this object, between two instructions of the main thread; what it
    raises is raised there.
    """

    def __init__(self, handler: Callable[[StopSignal], None] | None = None, *others: signal.Signals) -> None:
        self.signal: signal.Signals | None = None  # the first
        self.count = 0
        self._taken = 0
        self._handler = handler
        self._numbers = (signal.SIGINT, *others)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in self._numbers:
            with suppress(ValueError):  # signals can be caught in the main thread only
                self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def take(self) -> int:
        """Return the number of signals since the last call, for a loop that polls."""
        fresh, self._taken = self.count - self._taken, self.count
        return fresh

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        self.count += 1
        if self._handler is not None:
            self._handler(self)
