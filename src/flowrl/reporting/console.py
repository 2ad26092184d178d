"""The progress of training on stderr: a live view on a terminal, plain lines in a pipe, nothing for --json."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flowrl.contracts.printable import printable
from flowrl.reporting.metrics import METRICS
from flowrl.reporting.numbers import count, duration, sparkline

RENDERS_PER_S = 4.0
RENDER_SHARE = 1 / 200  # of the wall time: a slow terminal is drawn less often instead of slowing training
LINE_EVERY_S = 10.0
SPEED_WINDOW_S = 15.0  # speed and time left are averages over this time


@dataclass(frozen=True)
class EarlierSessions:
    """What the sessions before this one have done of a run."""

    env_steps: int = 0
    seconds: float = 0.0  # of collecting and updating
    returns: Sequence[float] = ()  # mean returns of the iterations in which an episode ended

    def __str__(self) -> str:
        return f"resumed at {self.env_steps:,} env steps, after {duration(self.seconds)}"


NOTHING_YET = EarlierSessions()


def open_view(
    total_steps: int,
    *,
    heading: str = "",
    earlier: EarlierSessions = NOTHING_YET,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> PlainLines | LiveView:
    """Open the view that suits `stream` (default stderr): live on a capable terminal, else plain lines.

    `total_steps` is the budget in environment steps, of which `earlier` sessions have done a part.
    """
    stream, heading = stream or sys.stderr, printable(heading)
    progress = Progress(total_steps, earlier, clock)
    if stream.isatty():
        console = Console(file=stream)
        if console.is_terminal and not console.is_dumb_terminal:
            return LiveView(console, progress, heading)
    return PlainLines(stream, progress, heading)


class Progress:
    """Progress and speed of a run: environment steps against the clock, and the latest finite metrics."""

    def __init__(self, total_steps: int, earlier: EarlierSessions, clock: Callable[[], float]) -> None:
        self.total = total_steps
        self.earlier = earlier
        self.steps = earlier.env_steps
        self.iteration = 0
        self.latest: dict[str, float] = {}
        self.returns = list(earlier.returns)  # of the iterations in which an episode ended
        self.names: set[str] = set()  # of all metrics, also those that were not finite so far
        self.clock = clock
        self.started = clock()
        self._recent = deque([(self.started, self.steps)])  # (seconds, steps), the oldest first

    def update(self, iteration: int, metrics: Mapping[str, float]) -> float:
        """Record an iteration and return the time."""
        now = self.clock()
        self.iteration = iteration
        # An iteration in which no episode ended has no return: the last known one stays.
        self.names.update(metrics)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self.latest.update(finite)
        if "return_mean" in finite:
            self.returns.append(finite["return_mean"])
        self.steps = int(self.latest.get("env_steps", self.steps))
        if now - self._recent[-1][0] >= 0.1 or len(self._recent) == 1:
            self._recent.append((now, self.steps))
            while len(self._recent) > 2 and now - self._recent[1][0] >= SPEED_WINDOW_S:
                self._recent.popleft()
        return now

    def metric(self, name: str) -> tuple[str, str]:
        """Return the label of a metric and its latest value as text."""
        metric = METRICS[name]
        return metric.view, metric.form(self.latest.get(name, math.nan))

    @property
    def seconds(self) -> float:
        """Seconds of this session and of the earlier ones."""
        return self.earlier.seconds + self.clock() - self.started

    @property
    def share(self) -> float:
        """The share of the budget that is done, in [0, 1]."""
        return min(1.0, self.steps / self.total) if self.total > 0 else 1.0

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second of wall time over the last `SPEED_WINDOW_S`; nan before the first."""
        (then, before), (now, after) = self._recent[0], self._recent[-1]
        return (after - before) / (now - then) if now > then else math.nan

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is used up at the present speed; nan when the speed is unknown."""
        speed = self.steps_per_s
        return max(0, self.total - self.steps) / speed if speed > 0 else math.nan


# --- what the views show --------------------------------------------------------------------------

LINE_WIDTHS = {
    "return_mean": 8,
    "success_rate": 7,
    "length_mean": 6,
    "ratio_max": 6,
    "clipped_share": 6,
    "cfm_loss": 8,
    "kl": 8,
    "explained_variance": 6,
    "learning_rate": 8,
}
"""Metric -> characters of its value in a plain line, which shows those that the run has."""

LABEL_WIDTH, VALUE_WIDTH, GAP = 14, 9, 3  # characters of a metric in the live view


# --- the two views --------------------------------------------------------------------------------


class PlainLines:
    """Prints a line for the first iteration, at most one every `LINE_EVERY_S` after it, and one for the last."""

    def __init__(self, stream: TextIO, progress: Progress, heading: str = "") -> None:
        self._stream = stream
        self._progress = progress
        self._next_line = -math.inf
        self._printed = 0
        if heading:
            self._print(f"{heading}: {progress.total:,} env steps")
        if progress.earlier.env_steps:
            self._print(str(progress.earlier))

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        now = self._progress.update(iteration, metrics)
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._print_line()

    def close(self) -> None:
        """Print the last iteration, if it was not printed yet."""
        if self._printed != self._progress.iteration:
            self._print_line()

    def _print_line(self) -> None:
        progress = self._progress
        self._printed = progress.iteration
        total = f"{progress.total:,}"
        words = [
            f"steps {progress.steps:>{len(total)},}/{total} {math.floor(100 * progress.share):3d} %",
            f"{count(progress.steps_per_s):>5} steps/s",
        ]
        for name, width in LINE_WIDTHS.items():
            if name in progress.names:
                label, value = progress.metric(name)
                words.append(f"{label} {value:>{width}}")
        words.append(f"left {duration(progress.seconds_left):>5}")
        self._print("  ".join(words))

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except OSError:  # the reader of the pipe has gone: training continues
            self._next_line = math.inf


class LiveView:
    """Redraws a few lines in place, at most `RENDERS_PER_S` times a second and for at most `RENDER_SHARE` of the time.

    Other lines that are written to stderr meanwhile appear above it.
    """

    def __init__(self, console: Console, progress: Progress, heading: str = "") -> None:
        self._progress = progress
        self._heading = heading
        self._console = console
        self._next_render = -math.inf
        # Drawn between iterations instead of by a thread of rich; stdout is for the result only.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, vertical_overflow="crop")
        self._live.start()
        self._render()

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        now = self._progress.update(iteration, metrics)
        if now >= self._next_render:
            self._render()

    def close(self) -> None:
        """Draw the last state, leave it on the screen and restore the cursor."""
        if self._live.is_started:
            self._render(finished=True)
            with suppress(OSError):
                self._live.stop()

    def _render(self, finished: bool = False) -> None:
        ascii_only = self._console.options.ascii_only
        width = self._console.width
        start = self._progress.clock()
        view = render(self._progress, self._heading, width, ascii_only, finished)
        try:
            self._live.update(view, refresh=True)
        except OSError:  # the terminal has gone: training continues
            self._next_render = math.inf
            return
        end = self._progress.clock()
        self._next_render = end + max(1 / RENDERS_PER_S, (end - start) / RENDER_SHARE)


def render(progress: Progress, heading: str, width: int, ascii_only: bool, finished: bool) -> Text:
    """Render the live view as styled text of at most `width` columns."""
    text = Text(no_wrap=True, overflow="ellipsis", end="")
    if heading:
        text.append(f"{heading}\n", "bold")
    if progress.earlier.env_steps:
        text.append(f"{progress.earlier}\n", "dim")
    _append_bar(text, progress, width, ascii_only, finished)
    present = [name for name in METRICS if METRICS[name].view and name in progress.names]
    if present[:1] == ["return_mean"]:
        label, value = progress.metric(present.pop(0))
        text.append(f"\n{label:<{LABEL_WIDTH}}", "dim").append(f"{value:>{VALUE_WIDTH}}", "bold green")
        if not ascii_only:
            bars = sparkline(progress.returns, width - LABEL_WIDTH - VALUE_WIDTH - GAP - 2)
            text.append(" " * GAP + bars, "green")
    columns = max(1, (width + GAP) // (LABEL_WIDTH + VALUE_WIDTH + GAP))
    for index, name in enumerate(present):
        label, value = progress.metric(name)
        text.append("\n" if index % columns == 0 else " " * GAP)
        text.append(f"{label:<{LABEL_WIDTH}}", "dim").append(f"{value:>{VALUE_WIDTH}}")
    return text


def _append_bar(text: Text, progress: Progress, width: int, ascii_only: bool, finished: bool) -> None:
    left, took = f"{duration(progress.seconds_left):>7} left", f"took {duration(progress.seconds):>5}"
    time_words = took if finished else left
    words = f" {math.floor(100 * progress.share):3d} %"
    if width >= 72:
        words += f"   {count(progress.steps):>5} of {count(progress.total)} steps"
    words += f"   {count(progress.steps_per_s):>5}/s  {time_words}"
    length = max(0, width - len(words) - 1)
    full = round(length * progress.share)
    done, ahead = ("#", "-") if ascii_only else ("━", "━")
    text.append(done * full, "cyan").append(ahead * (length - full), "bright_black").append(words)
