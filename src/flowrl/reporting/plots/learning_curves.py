"""Learning curves: metrics over environment steps or seconds, with bands over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowrl.config import recipe
from flowrl.config.fingerprint import experiment_settings
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.reporting import jsonl
from flowrl.reporting.metrics import METRICS, title
from flowrl.reporting.numbers import percent
from flowrl.reporting.plots.style import caption, colours, legend, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]  # (iterations,)
MOST_METRICS = 1000  # of a run; a column of numbers is made of each

PANELS = ("return_mean", "success_rate", "length_mean", "clipped_share", "cfm_loss", "explained_variance")
SYNONYMS = {
    "return": "return_mean",
    "reward": "return_mean",
    "success": "success_rate",
    "length": "length_mean",
    "loss": "cfm_loss",
    "lr": "learning_rate",
    "steps": "env_steps",
    "time": "seconds",
}


@dataclass(frozen=True)
class LearningCurve:
    """The metrics of one run, by iteration."""

    folder: Path
    config: Mapping[str, Any]  # its config.yaml; empty without one
    columns: Mapping[str, Curve]  # metric -> its value per iteration, nan where there was none


@dataclass(frozen=True)
class Band:
    """One metric of several runs on a common grid."""

    x: Curve  # (points,)
    mean: Curve  # (points,) over the runs
    low: Curve  # (points,) least of the runs
    high: Curve  # (points,) greatest of the runs


# --- reading --------------------------------------------------------------------------------------


def load(folder: Path) -> LearningCurve:
    """Load the run in `folder`, or a metrics.jsonl itself. Raises UsageError without any metrics."""
    path = jsonl.find(folder)
    records = jsonl.read(path)
    if not records:
        raise UsageError(f"{path} is empty: the run has not finished its first iteration.")
    names = dict.fromkeys(name for record in records for name in record)
    if len(names) > MOST_METRICS:
        raise UsageError(
            f"{path} has {len(names):,} metrics, and a run has fewer than {MOST_METRICS:,}: it is another file."
        )
    columns = {name: np.array([_value(record.get(name)) for record in records]) for name in names}
    return LearningCurve(path.parent, _config(path.parent / "config.yaml"), columns)


def groups(runs: Sequence[LearningCurve]) -> dict[str, list[LearningCurve]]:
    """Group runs that differ only in their seed, in the order given, by a label.

    A label is the algorithm and the environment, followed by other keys in which groups differ. A run without
    config.yaml is a group by itself, labelled with its folder's name.
    """
    grouped: dict[str, list[LearningCurve]] = {}
    for run in runs:
        settings = experiment_settings(run.config)
        identity = repr(sorted(settings.items(), key=lambda item: item[0])) if settings else str(run.folder)
        grouped.setdefault(identity, []).append(run)
    labels = _labels([members[0] for members in grouped.values()])
    return dict(zip(labels, grouped.values(), strict=True))


def column(run: LearningCurve, metric: str) -> Curve:
    """Return a metric of a run, per iteration. Raises UsageError, with the nearest name, for an unknown metric."""
    if metric in run.columns:
        return run.columns[metric]
    known = sorted(run.columns)
    suggestion = did_you_mean(metric, known, SYNONYMS)
    raise UsageError(f"{run.folder} has no metric {metric!r}.{suggestion} It has: {', '.join(known)}.")


# --- numbers --------------------------------------------------------------------------------------


def smoothed(values: Curve, window: int) -> Curve:
    """Average the `window` values around each value (fewer at the ends); nan counts as no value."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    start = np.maximum(0, index - (window - 1) // 2)
    stop = np.minimum(len(values), index + window // 2 + 1)
    number = counts[stop] - counts[start]
    return np.where(number > 0, (sums[stop] - sums[start]) / np.maximum(number, 1), np.nan)


def aggregate(curves: Iterable[tuple[Curve, Curve]], points: int = 200) -> Band | None:
    """Compute mean and range over runs of (x, y), each interpolated linearly to a common grid of `points`.

    The grid spans the x that all runs cover, so that every point is a mean over the same runs. None when a run has no
    finite value or the runs have no x in common.
    """
    finite = [(x[keep], y[keep]) for x, y in curves for keep in [np.isfinite(x) & np.isfinite(y)]]
    if not finite or any(len(x) == 0 for x, _ in finite):
        return None
    first, last = max(x[0] for x, _ in finite), min(x[-1] for x, _ in finite)
    if first > last:
        return None
    grid = np.linspace(first, last, points)
    values = np.stack([np.interp(grid, x, y) for x, y in finite])  # (runs, points)
    return Band(grid, values.mean(0), values.min(0), values.max(0))


def window_of(runs: Sequence[LearningCurve]) -> int:
    """Choose the smoothing window: a fiftieth of the longest run, odd, at least 1 iteration."""
    longest = max((len(column) for run in runs for column in run.columns.values()), default=1)
    return longest // 50 // 2 * 2 + 1


def early_stops(runs: Sequence[LearningCurve], x: str) -> list[tuple[LearningCurve, float, float]]:
    """Find the runs that cover less than 95 % of the longest, as (run, its last x, the longest's last x).

    The band of a group ends with the shortest of its runs.
    """
    lasts = [float(np.nanmax(column(run, x))) for run in runs]
    longest = max(lasts)
    return [(run, last, longest) for run, last in zip(runs, lasts, strict=True) if last < 0.95 * longest]


def final(run: LearningCurve, metric: str, share: float = 0.1) -> float:
    """Average a metric over the last tenth of a run's iterations, at least one; nan without a value there."""
    values = run.columns.get(metric, np.array([np.nan]))
    last = values[-max(1, round(share * len(values))) :]
    last = last[np.isfinite(last)]
    return float(last.mean()) if len(last) else float("nan")


def summary(runs: Sequence[LearningCurve]) -> dict[str, Any]:
    """Summarise the runs of a group: folder, iterations, steps, seconds, and the `final` value of each metric."""
    lasts = {
        metric: [float(run.columns[metric][-1]) if _has(run, metric) else None for run in runs]
        for metric in ("env_steps", "seconds")
    }
    present = [metric for metric in PANELS if any(_has(run, metric) for run in runs)]
    return {
        "runs": [str(run.folder) for run in runs],
        "seeds": [run.config.get("seed") for run in runs],
        "iterations": [len(next(iter(run.columns.values()))) for run in runs],
        **lasts,
        **{metric: [final(run, metric) for run in runs] for metric in present},
    }


def sentence(label: str, runs: Sequence[LearningCurve]) -> str:
    """Describe the end of a group's training in one line, with means over its runs of `final`."""
    words = [f"{len(runs)} {'seeds' if len(runs) > 1 else 'run'}"]
    for metric in ("return_mean", "success_rate", "length_mean"):
        finals = [final(run, metric) for run in runs if _has(run, metric)]
        finals = [value for value in finals if np.isfinite(value)]
        if finals:
            spread = f" ({min(finals):.4g} to {max(finals):.4g})" if min(finals) < max(finals) else ""
            words.append(f"{title(metric)} {sum(finals) / len(finals):.4g}{spread}")
    return f"{label}: {', '.join(words)} (means over the last tenth of the training)"


# --- drawing --------------------------------------------------------------------------------------


@styled
def draw(
    grouped: Mapping[str, Sequence[LearningCurve]],
    metrics: Sequence[str] = (),
    x: str = "env_steps",
    window: int | None = None,
) -> Figure:
    """Draw one panel per metric over `x` ("env_steps" or "seconds"), with one line per group.

    Several runs are drawn as their mean in a band from the least to the greatest, a single run with its unsmoothed
    values. `metrics` defaults to those of `PANELS` that any run has; `window` is the number of iterations that are
    averaged (default `window_of`), stated under the figure.
    """
    runs = [run for members in grouped.values() for run in members]
    if not metrics:
        metrics = [name for name in PANELS if any(_has(run, name) for run in runs)] or ["return_mean"]
    window = window or window_of(runs)
    columns = min(3, len(metrics)) if len(metrics) != 4 else 2
    rows = -(-len(metrics) // columns)
    figure = new_figure(width=9.0 if columns > 1 else 6.4, height=0.75 + (2.6 if columns > 1 else 3.4) * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for panel, (axes, metric) in enumerate(zip(grid, metrics, strict=False)):
        for label, colour in colours(grouped).items():
            draw_group(axes, grouped[label], metric, x, window, label, colour)
        format_axes(axes, metric)
        if panel + columns >= len(metrics):  # the lowest of its column
            axes.set_xlabel(title(x))
    for axes in list(figure.axes)[len(metrics) :]:
        axes.set_axis_off()
    _legend(figure, grouped)
    caption(figure, _description(grouped, window))
    return figure


def draw_group(
    axes: Axes, runs: Sequence[LearningCurve], metric: str, x: str, window: int, label: str, colour: str
) -> None:
    """Draw the mean of `runs` in their band; a single run with its unsmoothed values."""
    having = [run for run in runs if _has(run, metric)]
    band = aggregate((column(run, x), smoothed(column(run, metric), window)) for run in having)
    if band is None:
        return
    marker = "o" if band.x[0] == band.x[-1] else None  # a line of one point is invisible
    if len(having) == 1:
        known = np.isfinite(column(having[0], metric))
        steps, values = column(having[0], x)[known], column(having[0], metric)[known]
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smoothed(values, window), color=colour, label=label, marker=marker)
    else:
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(band.x, band.mean, color=colour, label=label, marker=marker)


def format_axes(axes: Axes, metric: str) -> None:
    """Set the title, ticks and limits that suit the metric."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title(metric))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if metric in METRICS and METRICS[metric].form is percent:  # drawn on [0, 1]
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low) if low < 0.5 else low, min(high, 1.02))
    if metric == "explained_variance":
        axes.set_ylim(max(-1.0, axes.get_ylim()[0]), 1.02)  # early on it can be hugely negative


def _legend(figure: Figure, grouped: Mapping[str, Sequence[LearningCurve]]) -> None:
    """Draw the legend above the panels, under the environment where all groups share it."""
    shared = {_env_id(run) for runs in grouped.values() for run in runs}
    env_id = shared.pop() if len(shared) == 1 else None
    labels = {}
    for label, colour in colours(grouped).items():
        short = label.replace(f" {env_id}", "", 1) if env_id else label
        count = len(grouped[label])
        labels[f"{short} ({count} seeds)" if count > 1 else short] = colour
    longest = max(len(label) for label in labels)
    columns = max(1, min(len(labels), round(11 * figure.get_figwidth()) // (longest + 8)))
    legend(figure, labels, columns, env_id)


def _description(grouped: Mapping[str, Sequence[LearningCurve]], window: int) -> str:
    sizes = {len(runs) for runs in grouped.values()}
    parts = ["line: mean of the seeds; band: least to greatest seed"] if max(sizes) > 1 else []
    parts.append(f"each run averaged over {window} iterations" if window > 1 else "unsmoothed")
    if 1 in sizes and window > 1:
        parts.append("pale line: unsmoothed")
    return "; ".join(parts)


def _value(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:  # a whole number beyond the largest float
        return float("nan")


def _has(run: LearningCurve, metric: str) -> bool:
    return metric in run.columns and bool(np.isfinite(run.columns[metric]).any())


def _config(path: Path) -> dict[str, Any]:
    """Read the run's settings; {} where they cannot be read, as they are used for labels only."""
    try:
        return recipe.read(path).values
    except UsageError:
        return {}


def _labels(runs: Sequence[LearningCurve]) -> list[str]:
    """Label the first run of each group by algorithm, environment, and the keys that distinguish equal ones."""
    names = [_name(run) for run in runs]
    settings = [experiment_settings(run.config) for run in runs]
    labels = []
    for name, own in zip(names, settings, strict=True):
        same_name = [other for others_name, other in zip(names, settings, strict=True) if others_name == name]
        keys = sorted({key for other in same_name for key in other})
        differing = [key for key in keys if len({repr(other.get(key)) for other in same_name}) > 1]
        labels.append(" ".join([name, *(f"{key}={own.get(key)}" for key in differing[:3])]))
    counts = Counter(labels)  # equal labels: more than three keys differ, or folders of one name
    return [label if counts[label] == 1 else f"{label} ({run.folder})" for label, run in zip(labels, runs, strict=True)]


def _name(run: LearningCurve) -> str:
    algorithm = run.config.get("algorithm")
    return " ".join(str(part) for part in (algorithm, _env_id(run)) if part) or run.folder.resolve().name


def _env_id(run: LearningCurve) -> str | None:
    env = run.config.get("env")
    return str(env["id"]) if isinstance(env, dict) and "id" in env else None
