"""What a sampler costs and gives: quality over NFE and over latency, and the Pareto-optimal choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowrl.reporting.figure import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Better = Literal["higher", "lower"]
POWERS_OF_TWO = [2.0**power for power in range(20)]
ONE_TWO_FIVE = [step * 10.0**power for power in range(-3, 10) for step in (1, 2, 5)]
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Choice:
    """One sampler at one setting: what an action costs with it, and how good it is."""

    sampler: str
    nfe: float  # velocity evaluations per action
    latency_us: float  # microseconds per call
    quality: float  # return, success rate or endpoint error
    interval: tuple[float, float] | None = None  # 95 % of the quality, low and high


def pareto(cost: ArrayLike, quality: ArrayLike, better: Better = "higher") -> NDArray[np.bool_]:
    """Which of the points no other one beats: (points,) bool.

    A point is beaten by one that costs no more and is no worse, and is cheaper or better (so equal points
    stand or fall together). A point with a number that is not finite is beaten.
    """
    cost = np.asarray(cost, dtype=float)
    gain = np.asarray(quality, dtype=float) * (1 if better == "higher" else -1)
    known = np.isfinite(cost) & np.isfinite(gain)
    # [i, j]: how point i compares with point j
    no_worse = (cost[:, None] <= cost) & (gain[:, None] >= gain) & known[:, None]
    strictly = (cost[:, None] < cost) | (gain[:, None] > gain)
    beaten = (no_worse & strictly).any(axis=0)
    return np.asarray(known & ~beaten, dtype=np.bool_)


@styled
def draw(choices: Sequence[Choice], quality: str, better: Better = "higher") -> Figure:
    """Quality over NFE (left) and over latency (right), one line per sampler through its settings.

    `quality` labels the vertical axis. Pareto-optimal choices are ringed, each panel by its own cost, and
    joined by a grey stair: what lies on its worse side is not worth its cost. Positive errors
    (better="lower") are drawn on a logarithmic axis.
    """
    figure = new_figure(width=9.0, height=4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_cost(left, choices, [choice.nfe for choice in choices], better, POWERS_OF_TWO)
    _draw_cost(right, choices, [choice.latency_us for choice in choices], better, ONE_TWO_FIVE)
    left.set_xlabel("NFE (velocity evaluations per action)")
    right.set_xlabel("latency (µs per action)")
    left.set_ylabel(f"{quality} ({better} is better)")
    if better == "lower" and all(choice.quality > 0 for choice in choices):
        left.set_yscale("log")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(8, len(labels)))
    return figure


def _draw_cost(
    axes: Axes, choices: Sequence[Choice], cost: Sequence[float], better: Better, ticks: Sequence[float]
) -> None:
    costs, qualities = np.array(cost), np.array([choice.quality for choice in choices])
    samplers = list(dict.fromkeys(choice.sampler for choice in choices))
    optimal = pareto(costs, qualities, better)
    _draw_stair(axes, costs[optimal], qualities[optimal])
    for index, sampler in enumerate(samplers):
        own = np.array([choice.sampler == sampler for choice in choices])
        order = np.flatnonzero(own)[np.argsort(costs[own], kind="stable")]
        colour = COLOURS[index % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 6}
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
    _log_axis(axes, costs, ticks)


def _draw_stair(axes: Axes, costs: NDArray[Any], qualities: NDArray[Any]) -> None:
    order = np.argsort(costs, kind="stable")
    axes.step(costs[order], qualities[order], where="post", color="0.75", linewidth=3, zorder=1)


def _log_axis(axes: Axes, costs: NDArray[Any], ticks: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers at those of `ticks` that lie in the range of the costs."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    known = costs[np.isfinite(costs) & (costs > 0)]
    axes.set_xscale("log")
    if len(known) == 0:
        return
    low, high = known.min() / 1.3, known.max() * 1.3
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,g}"))
    axes.set_xlim(low, high)
