"""Signals that ask a process to stop, noted so that it can end in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any


class Interruption:
    """While it is entered, SIGINT and `others` are noted instead of ending the process.

    `heard` is called at every one of them with this object, between two instructions of the main thread; what it
    raises is raised there.
    """

    def __init__(self, heard: Callable[[Interruption], None] | None = None, *others: signal.Signals) -> None:
        self.signal: signal.Signals | None = None  # the first
        self.count = 0
        self._taken = 0
        self._heard = heard
        self._numbers = (signal.SIGINT, *others)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in self._numbers:
            with suppress(ValueError):  # signals can be caught in the main thread only
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def take(self) -> int:
        """How many came since the last call, for a loop that looks when it is ready to."""
        fresh, self._taken = self.count - self._taken, self.count
        return fresh

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        self.count += 1
        if self._heard is not None:
            self._heard(self)
