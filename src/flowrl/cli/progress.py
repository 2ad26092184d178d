"""Progress of long commands on stderr: a bar on a terminal, a line for each finished part elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowrl.cli.output import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress

RENDERS_PER_S = 8.0


class ProgressBar:
    """A bar that is drawn when it is updated, at most `RENDERS_PER_S` times a second; without `bar` nothing is."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=None, start=True)
        self._next_render = 0.0

    def update(self, text: str, done: float = 0, total: float | None = None) -> None:
        """Show `text` and that `done` of `total` is done; without a `total` the end is not known."""
        if self._bar is None or self._task is None or time.monotonic() < self._next_render:
            return
        self._bar.update(self._task, description=printable(text), completed=done, total=total)
        self._bar.refresh()
        self._next_render = time.monotonic() + 1 / RENDERS_PER_S

    def begin(self) -> None:
        """Start the clock and the bar again, for the next part; the next update is drawn in any case."""
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=None)
        self._next_render = 0.0


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """Yield a bar that is drawn on stderr if that is a capable terminal, and removed at the end.

    Lines that are written to stderr meanwhile appear above it. Nothing is drawn elsewhere.
    """
    if not sys.stderr.isatty():
        yield ProgressBar(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(file=sys.stderr)
    if not console.is_terminal or console.is_dumb_terminal:
        yield ProgressBar(None)
        return
    cut = Column(no_wrap=True, overflow="ellipsis", ratio=3)  # a narrow terminal shortens the text, not the times
    columns = (
        TextColumn("{task.description}", markup=False, table_column=cut),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TimeElapsedColumn(Column(no_wrap=True)),
        TextColumn("elapsed,", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
    )
    # Drawn in between the steps of the work instead of by a thread of rich; stdout is for the result only.
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False, expand=True
    ) as bar:
        yield ProgressBar(bar)


@contextmanager
def parts(number: int, *, quiet: bool) -> Iterator[tuple[ProgressBar, Parts]]:
    """Yield a bar, and the reporter of `number` parts, whose finished ones get a line each unless there is only one.

    With `quiet`, as for --json, the lines are left out where stderr is not a terminal.
    """
    with progress_bar() as bar:
        yield bar, Parts(bar, number, lines=number > 1 and (sys.stderr.isatty() or not quiet))


class Parts:
    """Reports the parts of a long command as they finish."""

    def __init__(self, bar: ProgressBar, number: int, *, lines: bool) -> None:
        self._bar, self._number, self._lines = bar, number, lines
        self._done = 0
        self._started = time.monotonic()

    @property
    def label(self) -> str:
        """'(2/6) ', the number of the running part; '' where there is only one."""
        return f"({self._done + 1}/{self._number}) " if self._number > 1 else ""

    def finish(self, text: str) -> None:
        """Report that the running part is finished, with its result, and begin the next one."""
        seconds = time.monotonic() - self._started
        if self._lines:
            say(f"{self.label}{text}, {seconds:.1f} s")
        self._done += 1
        self._started = time.monotonic()
        self._bar.begin()
