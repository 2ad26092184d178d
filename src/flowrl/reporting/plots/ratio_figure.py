"""The log-ratio of CFM losses over the exact one, and its noise over the number of probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowrl.reporting.plots.style import BLUE, GREY, colours, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def draw(points: Sequence[tuple[float, float]], noise: Sequence[tuple[int, str, float]]) -> Figure:
    """Draw `points` (exact log-ratio, that of CFM losses) on the left, and `noise` (probes, law, std) on the right."""
    figure = new_figure(width=9.0, height=4.2)
    left, right = figure.subplots(1, 2)
    exact, found = np.array(points).T
    left.axline((0, 0), slope=1, color=GREY, linewidth=1)
    left.plot(exact, found, "o", color=BLUE, markersize=3, alpha=0.5, linestyle="none")
    left.set_xlabel("exact log-ratio (nats)")
    left.set_ylabel("log-ratio of CFM losses, weighting u")
    left.set_title("actions of one update", loc="left")
    for law, colour in colours(dict.fromkeys(law for _, law, _ in noise)).items():
        pairs = [(count, std) for count, name, std in noise if name == law]
        right.plot(*zip(*pairs, strict=True), "o-", color=colour, label=law, markersize=4)
    if noise:
        from matplotlib.ticker import NullLocator, ScalarFormatter

        right.set(xscale="log", yscale="log")
        counts = sorted({count for count, _, _ in noise})
        right.set_xticks(counts, [str(count) for count in counts])
        right.xaxis.set_minor_locator(NullLocator())
        right.yaxis.set_major_formatter(ScalarFormatter())
        right.legend()
    right.set_xlabel("probes per action")
    right.set_ylabel("noise of the log-ratio (std, nats)")
    return figure
