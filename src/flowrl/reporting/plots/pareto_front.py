"""Figures of quality over NFE and over latency of samplers, with the Pareto-optimal choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flowrl.evaluation import pareto
from flowrl.evaluation.pareto import Better
from flowrl.reporting.plots.style import VERMILLION, colours, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECADES = [10.0**power for power in range(-12, 13)]
ONE_TWO_FIVE = [step * decade for decade in DECADES for step in (1, 2, 5)]
ONE_TO_NINE = [digit * decade for decade in DECADES for digit in range(1, 10)]
POWERS_OF_TWO = [2.0**power for power in range(24)]
POWERS_OF_FOUR = POWERS_OF_TWO[::2]
MOST_TICKS = 10  # side by side in one panel
LOGARITHMIC_FROM = 10  # greatest / least quality, below which a logarithmic axis would have no round ticks
MARKERS = "osD^vPX"
WIDTH = 9.0  # inches
INCHES_OF_A_LINE, INCHES_PER_LETTER = 0.6, 0.075  # of an entry of the legend


@dataclass(frozen=True)
class Choice:
    """One sampler at one setting, with its cost per action and its quality."""

    sampler: str
    nfe: float  # velocity evaluations per action
    latency_us: float  # microseconds per call
    quality: float  # return, success rate or endpoint error
    interval: tuple[float, float] | None = None  # 95 % of the quality, low and high


@styled
def draw(
    choices: Sequence[Choice], quality: str, better: Better = "higher", *, title: str = "", warning: str = ""
) -> Figure:
    """Draw quality over NFE (left) and over latency (right), one line per sampler through its settings.

    `quality` labels the vertical axis. Choices that are Pareto-optimal in a panel's cost are ringed and joined by a
    grey stair: choices on its worse side are dominated. Errors (better="lower") that span a decade or more are drawn
    on a logarithmic axis. `warning` is printed in red above the figure.
    """
    figure = new_figure(width=WIDTH, height=4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_cost(left, choices, [choice.nfe for choice in choices], better)
    _draw_cost(right, choices, [choice.latency_us for choice in choices], better)
    _scale(left, "x", [choice.nfe for choice in choices], [POWERS_OF_TWO, POWERS_OF_FOUR, DECADES])
    _scale(right, "x", [choice.latency_us for choice in choices], [ONE_TWO_FIVE, DECADES])
    qualities = [choice.quality for choice in choices if np.isfinite(choice.quality)]
    if better == "lower" and qualities and max(qualities) >= LOGARITHMIC_FROM * min(qualities) > 0:
        _scale(left, "y", qualities, [ONE_TWO_FIVE, DECADES, DECADES[::3]])
    left.set_xlabel("NFE (velocity evaluations per action)")
    right.set_xlabel("latency (µs per action)")
    left.set_ylabel(f"{quality} ({better} is better)")
    left.set_title(title, loc="left")
    right.set_title(warning, loc="right", color=VERMILLION)
    handles, labels = left.get_legend_handles_labels()
    columns = int(WIDTH / (INCHES_OF_A_LINE + INCHES_PER_LETTER * max(map(len, labels))))
    figure.legend(handles, labels, loc="outside upper center", ncols=max(1, min(8, columns, len(labels))))
    return figure


def _draw_cost(axes: Axes, choices: Sequence[Choice], cost: Sequence[float], better: Better) -> None:
    costs, qualities = np.array(cost), np.array([choice.quality for choice in choices])
    samplers = dict.fromkeys(choice.sampler for choice in choices)
    optimal = pareto.front(costs, qualities, better)
    stair = np.flatnonzero(optimal)[np.argsort(costs[optimal], kind="stable")]
    axes.step(costs[stair], qualities[stair], where="post", color="0.75", linewidth=3, zorder=1)
    for index, (sampler, colour) in enumerate(colours(samplers).items()):
        of_sampler = np.array([choice.sampler == sampler for choice in choices])
        order = np.flatnonzero(of_sampler)[np.argsort(costs[of_sampler], kind="stable")]
        marker = MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]  # shifted where the colours begin again
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6}
        axes.plot(costs[order], qualities[order], label=sampler, linewidth=1.4, zorder=2, **style)
        for choice, at in ((choices[i], costs[i]) for i in order):
            if choice.interval is not None:
                axes.vlines(at, *choice.interval, color=colour, alpha=0.5, linewidth=1.2)
    axes.plot(
        costs[optimal],
        qualities[optimal],
        "o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=1.1,
        label="Pareto-optimal",
        zorder=3,
    )


def _scale(axes: Axes, which: Literal["x", "y"], values: Sequence[float], families: Sequence[Sequence[float]]) -> None:
    """Make an axis logarithmic over `values`, with the first of `families` of ticks that is not too crowded."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    known = [value for value in values if np.isfinite(value) and value > 0]
    if not known:
        return
    margin = max(1.3, (max(known) / min(known)) ** 0.06)  # a ring's width
    low, high = min(known) / margin, max(known) * margin
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in families]
    chosen = next((ticks for ticks in inside if len(ticks) <= MOST_TICKS), inside[-1])
    if len(chosen) < 2:
        chosen = [tick for tick in ONE_TO_NINE if low <= tick <= high] or chosen
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(chosen))
    axis.set_minor_locator(NullLocator())  # labels of minor ticks would overlap
    axis.set_major_formatter(FuncFormatter(lambda tick, _: _short(tick)))


def _short(tick: float) -> str:
    """Format a tick as 0.01, 500, 1024, 20k or 1M; below 1e-3 as a power of ten in mathematical type."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if tick >= unit and tick % unit == 0:
            return f"{tick / unit:g}{letter}"
    if tick >= 1e-3:
        return f"{tick:g}"
    power = math.floor(math.log10(tick) + 1e-9)
    step = round(tick / 10.0**power)
    multiple = "" if step == 1 else rf"{step} \times "
    return f"${multiple}10^{{{power}}}$"
