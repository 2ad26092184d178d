"""The training view: live on a terminal, plain lines in a pipe, silent for --json. Always on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

RENDERS_PER_S = 4.0
RENDER_SHARE = 1 / 200  # of the wall time: a slow terminal is drawn less often instead of slowing training
LINE_EVERY_S = 10.0
PACE_WINDOW_S = 15.0  # speed and time left are averages over this long
HISTORY = 256  # points kept for the sparkline; neighbours are merged when it is full


class TrainingView(Protocol):
    """A reporter that a person watches."""

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def open_view(
    total_steps: int,
    *,
    heading: str = "",
    env_steps: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingView:
    """The view that suits `stream` (default stderr): live on a terminal that can, else plain lines.

    `total_steps` is the budget in environment steps, of which a resumed run has `env_steps` behind it.
    """
    if quiet:
        return Silent()
    stream = stream or sys.stderr
    progress = Progress(total_steps, env_steps, clock)
    if stream.isatty():
        console = Console(file=stream)
        if console.is_terminal and not console.is_dumb_terminal:
            return LiveView(console, progress, heading)
    return PlainLines(stream, progress, heading)


class Silent:
    """Shows nothing."""

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class Progress:
    """How far a run is and how fast: environment steps against the clock, and the latest finite metrics."""

    def __init__(self, total_steps: int, env_steps: int, clock: Callable[[], float]) -> None:
        self.total = total_steps
        self.steps = env_steps
        self.iteration = 0
        self.latest: dict[str, float] = {}
        self.names: set[str] = set()  # of all metrics, also those that were not finite so far
        self.clock = clock
        self.started = clock()
        self._pace = deque([(self.started, env_steps)])  # (seconds, steps), the oldest first

    def note(self, iteration: int, metrics: Mapping[str, float]) -> float:
        """Take in an iteration and return the time."""
        now = self.clock()
        self.iteration = iteration
        # An iteration in which no episode ended says nothing about the return: the last known one stays.
        self.names.update(metrics)
        self.latest.update((name, value) for name, value in metrics.items() if math.isfinite(value))
        self.steps = int(self.latest.get("env_steps", self.steps))
        if now - self._pace[-1][0] >= 0.1 or len(self._pace) == 1:
            self._pace.append((now, self.steps))
            while len(self._pace) > 2 and now - self._pace[1][0] >= PACE_WINDOW_S:
                self._pace.popleft()
        return now

    @property
    def share(self) -> float:
        """Share of the budget that is done, in [0, 1]."""
        return min(1.0, self.steps / self.total) if self.total > 0 else 1.0

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second of wall time over the last `PACE_WINDOW_S`; nan before the first."""
        (then, before), (now, after) = self._pace[0], self._pace[-1]
        return (after - before) / (now - then) if now > then else math.nan

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is used at the present speed; nan when the speed is unknown."""
        speed = self.steps_per_s
        return max(0, self.total - self.steps) / speed if speed > 0 else math.nan


# --- one quantity, written ------------------------------------------------------------------------


def number(value: float) -> str:
    """A number in at most eight characters: 0.0412, 3.14, 512.3, 12,345, 1.23e+07, 3.0e-05."""
    size = abs(value)
    if not math.isfinite(value):
        return "-"
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def percent(value: float) -> str:
    """A share in [0, 1] as 97.3 %."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def ratio(value: float) -> str:
    """A likelihood ratio, which lies near 1: three decimals."""
    return f"{value:.3f}" if abs(value) < 1000 else number(value)


def count(value: float) -> str:
    """A count in at most five characters: 950, 12.3k, 4.56M."""
    if not math.isfinite(value):
        return "-"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Seconds as 0:07, 12:30 or 3:05:00; -:-- when unknown."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` bars from the lowest (▁) to the highest (█); each bar is a mean."""
    width = min(width, len(values))
    if width <= 0:
        return ""
    edges = [round(bar * len(values) / width) for bar in range(width + 1)]
    bars = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(bars), max(bars)
    scale = 7 / (high - low) if high > low else 0.0
    return "".join("▁▂▃▄▅▆▇█"[round((bar - low) * scale)] for bar in bars)


CELLS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("success_rate", "success", percent),
    ("length_mean", "length", number),
    ("cfm_loss", "cfm loss", number),
    ("kl", "kl", number),
    ("entropy", "entropy", number),
    ("ratio_mean", "ratio", ratio),
    ("ratio_min", "ratio min", ratio),
    ("ratio_max", "ratio max", ratio),
    ("clipped_share", "clipped", percent),
    ("bound_share", "at bound", percent),
    ("explained_variance", "expl. var.", number),
    ("value_loss", "value loss", number),
    ("learning_rate", "learn. rate", number),
)
"""Metric, label, format: what the live view shows under the return, of those that the run has."""

LINE = (
    ("return_mean", "return", 8, number),
    ("success_rate", "success", 7, percent),
    ("length_mean", "length", 6, number),
    ("ratio_max", "ratio max", 6, ratio),
    ("clipped_share", "clipped", 6, percent),
    ("cfm_loss", "cfm", 8, number),
    ("kl", "kl", 8, number),
    ("explained_variance", "expl.var", 6, number),
    ("learning_rate", "lr", 8, number),
)
"""Metric, label, width, format of a plain line, of those that the run has."""


# --- the two views --------------------------------------------------------------------------------


class PlainLines:
    """A line for the first iteration, then at most one each `LINE_EVERY_S`, and one for the last."""

    def __init__(self, stream: TextIO, progress: Progress, heading: str = "") -> None:
        self._stream = stream
        self._progress = progress
        self._next_line = -math.inf
        self._printed = 0
        if heading:
            self._print(f"{heading}: {progress.total:,} env steps")

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        now = self._progress.note(iteration, metrics)
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._print_line()

    def close(self) -> None:
        """Print the last iteration, if it was not."""
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
        words += [
            f"{label} {form(progress.latest.get(name, math.nan)):>{width}}"
            for name, label, width, form in LINE
            if name in progress.names
        ]
        words.append(f"left {duration(progress.seconds_left):>5}")
        self._print("  ".join(words))

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except OSError:  # the reader of the pipe went away: no reason to stop training
            self._next_line = math.inf


class LiveView:
    """A few lines that are redrawn in place, at most `RENDERS_PER_S` times a second and never for more than
    `RENDER_SHARE` of the time. Other lines written to stderr meanwhile appear above it."""

    def __init__(self, console: Console, progress: Progress, heading: str = "") -> None:
        self._progress = progress
        self._heading = heading
        self._history: list[float] = []
        self._merged = 1  # iterations per point of the history
        self._pending: list[float] = []
        self._console = console
        self._next_render = -math.inf
        # No thread of rich's: drawing happens between iterations. stdout is the result's, never the view's.
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=False, vertical_overflow="crop"
        )
        self._live.start()
        self._render()

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        now = self._progress.note(iteration, metrics)
        value = metrics.get("return_mean", math.nan)
        if math.isfinite(value):
            self._remember(value)
        if now >= self._next_render:
            self._render()

    def close(self) -> None:
        """Draw the last state, leave it on the screen and give the cursor back."""
        if self._live.is_started:
            self._render(finished=True)
            with suppress(OSError):
                self._live.stop()

    def _remember(self, value: float) -> None:
        self._pending.append(value)
        if len(self._pending) == self._merged:
            self._history.append(sum(self._pending) / self._merged)
            self._pending.clear()
        if len(self._history) == HISTORY:
            self._history = [
                (a + b) / 2 for a, b in zip(self._history[::2], self._history[1::2], strict=True)
            ]
            self._merged *= 2

    def _render(self, finished: bool = False) -> None:
        ascii_only = self._console.options.ascii_only
        width = self._console.width
        start = self._progress.clock()
        view = picture(self._progress, self._history, self._heading, width, ascii_only, finished)
        try:
            self._live.update(view, refresh=True)
        except OSError:  # the terminal went away: no reason to stop training
            self._next_render = math.inf
            return
        end = self._progress.clock()
        self._next_render = end + max(1 / RENDERS_PER_S, (end - start) / RENDER_SHARE)


def picture(
    progress: Progress, history: Sequence[float], heading: str, width: int, ascii_only: bool, finished: bool
) -> Text:
    """The live view as styled text of at most `width` columns."""
    text = Text(no_wrap=True, overflow="ellipsis", end="")
    if heading:
        text.append(f"{heading}\n", "bold")
    _append_bar(text, progress, width, ascii_only, finished)
    if "return_mean" in progress.names:
        value = number(progress.latest.get("return_mean", math.nan))
        text.append("\nreturn      ", "dim").append(f"{value:>9}", "bold green")
        if not ascii_only:
            text.append(f"   {sparkline(history, width - 26)}", "green")
    cells = [
        (label, form(progress.latest.get(name, math.nan)))
        for name, label, form in CELLS
        if name in progress.names
    ]
    columns = max(1, (width + 3) // 24)  # a cell is 12 of label and 9 of value, 3 lie between
    for index, (label, value) in enumerate(cells):
        text.append("\n" if index % columns == 0 else "   ")
        text.append(f"{label:<12}", "dim").append(f"{value:>9}")
    return text


def _append_bar(text: Text, progress: Progress, width: int, ascii_only: bool, finished: bool) -> None:
    if finished:
        time_words = f"took {duration(progress.clock() - progress.started):>5}"
    else:
        time_words = f"{duration(progress.seconds_left):>7} left"
    words = f" {math.floor(100 * progress.share):3d} %"
    if width >= 72:
        words += f"   {count(progress.steps):>5} of {count(progress.total)} steps"
    words += f"   {count(progress.steps_per_s):>5}/s  {time_words}"
    length = max(0, width - len(words) - 1)
    full = round(length * progress.share)
    done, ahead = ("#", "-") if ascii_only else ("━", "━")
    text.append(done * full, "cyan").append(ahead * (length - full), "bright_black").append(words)
