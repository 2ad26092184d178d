"""The figures of a comparison: learning curves task by task, and performance profiles over all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowrl.experiments.comparison.results import Comparison
from flowrl.experiments.comparison.tables import mode_title
from flowrl.reporting.metrics import title
from flowrl.reporting.plots.learning_curves import LearningCurve, draw_group, format_axes, window_of
from flowrl.reporting.plots.style import GREY, caption, colours, legend, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC, LENGTH, X = "return_mean", "length_mean", "env_steps"


@styled
def curves(tasks: Mapping[str, Mapping[str, Sequence[LearningCurve]]], algorithms: Sequence[str]) -> Figure:
    """Draw a panel per task: training return over environment steps, a line per algorithm in a band over its seeds."""
    runs = [run for groups in tasks.values() for members in groups.values() for run in members]
    window = window_of(runs)
    columns = columns_for(len(tasks))
    rows = -(-len(tasks) // columns)
    width, height = (6.4, 3.4) if columns == 1 else (3.0, 2.3)  # of a panel, in inches
    figure = new_figure(width=width * columns + 0.4 * (columns > 1), height=0.9 + height * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    colour_of = colours(algorithms)
    for place, (axes, (task, groups)) in enumerate(zip(panels, tasks.items(), strict=False)):
        metric = shown_metric([run for members in groups.values() for run in members])
        for name, members in groups.items():
            draw_group(axes, members, metric, X, window, name, colour_of[name])
        format_axes(axes, metric)
        axes.set_title(task if metric == METRIC else f"{task}: {title(metric)}")
        if not axes.lines:
            why = "no episode has ended" if any(groups.values()) else "no metrics.jsonl"
            axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color="0.4")
        if place % columns == 0:
            axes.set_ylabel(title(METRIC))
        if place + columns >= len(tasks):  # the lowest of its column
            axes.set_xlabel(title(X))
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    legend(figure, colour_of, min(5, len(colour_of)))
    smoothing = f"each run averaged over {window} iterations" if window > 1 else "unsmoothed"
    bands = "line: mean of the seeds; band: least to greatest seed"
    caption(figure, f"while training: return, or what a title names where the return is constant; {bands}; {smoothing}")
    return figure


def shown_metric(runs: Sequence[LearningCurve]) -> str:
    """Return the metric that shows how the runs learn: their return, or, where that is constant, the episode length."""
    values = {
        name: np.concatenate([run.columns[name] for run in runs if name in run.columns] or [np.array([])])
        for name in (METRIC, LENGTH)
    }
    flat = {name: len(set(known[np.isfinite(known)].round(9).tolist())) < 2 for name, known in values.items()}
    return LENGTH if flat[METRIC] and not flat[LENGTH] else METRIC


def columns_for(panels: int) -> int:
    """Choose the number of columns that leaves the fewest places of the grid empty."""
    if panels <= 6:
        return {1: 1, 2: 2, 4: 2}.get(panels, 3)
    return min((4, 3, 5), key=lambda columns: -panels % columns)


@styled
def profile(comparison: Comparison) -> Figure:
    """Draw a panel per noise mode: the share of runs that score above each threshold, in 95 % bands.

    Raises ValueError when no task has runs of all algorithms.
    """
    profiles, modes = comparison.overall.profile, comparison.noise
    if profiles is None:
        raise ValueError("no profile: there is no task that all algorithms have runs of")
    figure = new_figure(width=4.6 * len(modes) if len(modes) > 1 else 6.4, height=3.9)
    colour_of = colours(comparison.algorithms)
    thresholds = profiles.thresholds
    panels = figure.subplots(1, len(modes), squeeze=False, sharey=True)[0]
    for axes, mode in zip(panels, modes, strict=True):
        for place, (name, lines) in enumerate(profiles.algorithms.items()):
            line, colour = lines[mode], colour_of[name]
            if line.low is not None and line.high is not None:
                band = (thresholds, line.low, line.high)
                axes.fill_between(*band, color=colour, alpha=0.18, linewidth=0, step="post")
            above = len(profiles.algorithms) - 1 - place
            width = 1.4 + 0.5 * above  # where lines coincide, both can be seen
            axes.plot(thresholds, line.share, color=colour, linewidth=width, drawstyle="steps-post")
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(mode_title(mode), fontsize=10)
        axes.set_xlabel("normalised score")
        axes.set_ylim(-0.02, 1.02)
        margin = 0.02 * (thresholds[-1] - thresholds[0])
        axes.set_xlim(thresholds[0] - margin, thresholds[-1] + margin)
    panels[0].set_ylabel("share of runs above it")
    legend(figure, colour_of, min(5, len(colour_of)))
    number = len(comparison.overall.tasks)
    caption(
        figure,
        f"over {number} {'tasks' if number > 1 else 'task'}; band: 95 % stratified bootstrap; where a line crosses the "
        "dots: the median run",
    )
    return figure
