"""Learning curves: metrics over environment steps or seconds, with bands over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from flowrl.config.fingerprint import experiment_settings
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.reporting import jsonl
from flowrl.reporting.plots.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]  # (iterations,)

LABELS = {
    "return_mean": "return",
    "success_rate": "success rate",
    "length_mean": "episode length",
    "clipped_share": "clipped share",
    "cfm_loss": "CFM loss",
    "kl": "KL",
    "explained_variance": "explained variance",
    "env_steps": "environment steps",
    "seconds": "seconds",
    "env_steps_per_s": "environment steps per second",
}
PANELS = ("return_mean", "success_rate", "length_mean", "clipped_share", "cfm_loss", "explained_variance")
SHARES = ("success_rate", "clipped_share", "bound_share")  # drawn on [0, 1]
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
    """What one run folder says."""

    folder: Path
    config: Mapping[str, Any]  # its config.yaml; empty without one
    columns: Mapping[str, Curve]  # metric -> its value per iteration, nan where there was none


@dataclass(frozen=True)
class Band:
    """Several runs' values of one metric on a common grid."""

    x: Curve  # (points,)
    mean: Curve  # (points,) over the runs
    low: Curve  # (points,) least of the runs
    high: Curve  # (points,) greatest of the runs
    runs: int


# --- reading --------------------------------------------------------------------------------------


def load(folder: Path) -> LearningCurve:
    """The run in `folder` (or of a metrics.jsonl itself): UsageError when there are no metrics in it."""
    path = jsonl.find(folder)
    records = jsonl.read(path)
    if not records:
        raise UsageError(f"{path} is empty: the run has not finished its first iteration.")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: np.array([_value(record.get(name)) for record in records]) for name in names}
    return LearningCurve(path.parent, _config(path.parent / "config.yaml"), columns)


def groups(runs: Sequence[LearningCurve]) -> dict[str, list[LearningCurve]]:
    """Label -> the runs that differ in nothing but their seed, in the order given.

    A label is the algorithm and the environment, with whatever else two groups differ in behind it; a run
    without config.yaml is its own group, under its folder's name.
    """
    grouped: dict[str, list[LearningCurve]] = {}
    leaves: dict[str, dict[str, Any]] = {}
    for run in runs:
        own = experiment_settings(run.config)
        identity = repr(sorted(own.items(), key=lambda item: item[0])) if own else str(run.folder)
        grouped.setdefault(identity, []).append(run)
        leaves[identity] = own
    labels = _labels({identity: grouped[identity][0] for identity in grouped}, leaves)
    return {labels[identity]: members for identity, members in grouped.items()}


def column(run: LearningCurve, metric: str) -> Curve:
    """A metric of a run, per iteration; UsageError (with the nearest name) when the run has none of it."""
    if metric in run.columns:
        return run.columns[metric]
    known = sorted(run.columns)
    suggestion = did_you_mean(metric, known, SYNONYMS)
    raise UsageError(f"{run.folder} has no metric {metric!r}.{suggestion} It has: {', '.join(known)}.")


# --- numbers --------------------------------------------------------------------------------------


def smoothed(values: Curve, window: int) -> Curve:
    """The mean of the `window` values around each (fewer at the ends); nan counts as no value."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    start = np.maximum(0, index - (window - 1) // 2)
    stop = np.minimum(len(values), index + window // 2 + 1)
    number = counts[stop] - counts[start]
    return np.where(number > 0, (sums[stop] - sums[start]) / np.maximum(number, 1), np.nan)


def aggregate(curves: Iterable[tuple[Curve, Curve]], points: int = 200) -> Band | None:
    """Mean and range over runs of (x, y), each interpolated linearly to a common grid of `points`.

    The grid spans the x that all of the runs cover, so every point is a mean over the same runs. None when
    a run has no finite value or the runs have no x in common.
    """
    finite = [(x[keep], y[keep]) for x, y in curves for keep in [np.isfinite(x) & np.isfinite(y)]]
    if not finite or any(len(x) == 0 for x, _ in finite):
        return None
    first, last = max(x[0] for x, _ in finite), min(x[-1] for x, _ in finite)
    if first > last:
        return None
    grid = np.linspace(first, last, points)
    values = np.stack([np.interp(grid, x, y) for x, y in finite])  # (runs, points)
    return Band(grid, values.mean(0), values.min(0), values.max(0), len(finite))


def window_of(runs: Sequence[LearningCurve]) -> int:
    """The smoothing that suits the runs: a fiftieth of the longest, odd, at least 1 iteration."""
    longest = max((len(column) for run in runs for column in run.columns.values()), default=1)
    return longest // 50 // 2 * 2 + 1


def early_stops(runs: Sequence[LearningCurve], x: str) -> list[tuple[LearningCurve, float, float]]:
    """(run, its last x, the group's last x) of the runs that cover less than 95 % of what the longest does:
    each ends the band of its group early."""
    lasts = [float(np.nanmax(column(run, x))) for run in runs]
    return [
        (run, last, max(lasts)) for run, last in zip(runs, lasts, strict=True) if last < 0.95 * max(lasts)
    ]


def final(run: LearningCurve, metric: str, share: float = 0.1) -> float:
    """Mean of a metric over the last tenth of a run's iterations (at least one); nan without a value there."""
    values = run.columns.get(metric, np.array([np.nan]))
    last = values[-max(1, round(share * len(values))) :]
    last = last[np.isfinite(last)]
    return float(last.mean()) if len(last) else float("nan")


def summary(runs: Sequence[LearningCurve]) -> dict[str, Any]:
    """How the runs of a group ended: folders, iterations, environment steps, seconds, and each metric of
    `PANELS` (as `final` takes it) per run."""
    return {
        "runs": [str(run.folder) for run in runs],
        "seeds": [run.config.get("seed") for run in runs],
        "iterations": [len(next(iter(run.columns.values()))) for run in runs],
        **{
            metric: [float(run.columns[metric][-1]) if _has(run, metric) else None for run in runs]
            for metric in ("env_steps", "seconds")
        },
        **{
            metric: [final(run, metric) for run in runs]
            for metric in PANELS
            if any(_has(run, metric) for run in runs)
        },
    }


def sentence(label: str, runs: Sequence[LearningCurve]) -> str:
    """One line on how a group ended, each number the mean over its runs of `final`."""
    words = [f"{len(runs)} {'seeds' if len(runs) > 1 else 'run'}"]
    for metric in ("return_mean", "success_rate", "length_mean"):
        finals = [final(run, metric) for run in runs if _has(run, metric)]
        finals = [value for value in finals if np.isfinite(value)]
        if finals:
            spread = f" ({min(finals):.4g} to {max(finals):.4g})" if min(finals) < max(finals) else ""
            words.append(f"{LABELS[metric]} {sum(finals) / len(finals):.4g}{spread}")
    return f"{label}: {', '.join(words)} (means over the last tenth of the training)"


# --- drawing --------------------------------------------------------------------------------------


@styled
def draw(
    grouped: Mapping[str, Sequence[LearningCurve]],
    metrics: Sequence[str] = (),
    x: str = "env_steps",
    window: int | None = None,
) -> Figure:
    """One panel per metric over `x` ("env_steps" or "seconds"), one line per group.

    A group of several runs is its mean line in a band from the least to the greatest seed, a single run its
    line over its unsmoothed values. `metrics` defaults to those of `PANELS` that any run has; `window` is the
    number of iterations that are averaged (default `window_of`), stated under the figure.
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
        for (label, members), colour in zip(grouped.items(), _cycled(COLOURS, len(grouped)), strict=True):
            draw_group(axes, members, metric, x, window, label, colour)
        dress(axes, metric)
        if panel + columns >= len(metrics):  # the lowest of its column
            axes.set_xlabel(LABELS.get(x, x))
    for axes in list(figure.axes)[len(metrics) :]:
        axes.set_axis_off()
    _head(figure, grouped)
    figure.supxlabel(_caption(grouped, window), fontsize=8, color="0.4")
    return figure


def draw_group(
    axes: Axes, runs: Sequence[LearningCurve], metric: str, x: str, window: int, label: str, colour: str
) -> None:
    """One line in its band over `runs`; a single run over its unsmoothed values."""
    having = [run for run in runs if _has(run, metric)]
    band = aggregate((column(run, x), smoothed(column(run, metric), window)) for run in having)
    if band is None:
        return
    if len(having) == 1:
        known = np.isfinite(column(having[0], metric))
        steps, values = column(having[0], x)[known], column(having[0], metric)[known]
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        marker = "o" if len(values) == 1 else None  # a line of one point cannot be seen
        axes.plot(steps, smoothed(values, window), color=colour, label=label, marker=marker)
    else:
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
        marker = "o" if len(band.x) == 1 else None  # a line through one point is not to be seen
        axes.plot(band.x, band.mean, color=colour, label=label, marker=marker)


def dress(axes: Axes, metric: str) -> None:
    """Title, ticks and limits that suit the metric."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(LABELS.get(metric, metric.replace("_", " ")))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if metric in SHARES:
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low) if low < 0.5 else low, min(high, 1.02))
    if metric == "explained_variance":
        axes.set_ylim(max(-1.0, axes.get_ylim()[0]), 1.02)  # early on it can be hugely negative


def _head(figure: Figure, grouped: Mapping[str, Sequence[LearningCurve]]) -> None:
    """The legend above the panels, under the environment where all groups share it."""
    from matplotlib.lines import Line2D

    shared = {_env_id(run) for runs in grouped.values() for run in runs}
    env_id = shared.pop() if len(shared) == 1 else None
    labels = []
    for label, runs in grouped.items():
        short = label.replace(f" {env_id}", "", 1) if env_id else label
        labels.append(f"{short} ({len(runs)} seeds)" if len(runs) > 1 else short)
    lines = [Line2D([], [], color=colour, linewidth=2.5) for colour in _cycled(COLOURS, len(grouped))]
    longest = max(len(label) for label in labels)
    columns = max(1, min(len(labels), round(11 * figure.get_figwidth()) // (longest + 8)))
    figure.legend(lines, labels, loc="outside upper center", ncols=columns, title=env_id)


def _caption(grouped: Mapping[str, Sequence[LearningCurve]], window: int) -> str:
    several = any(len(runs) > 1 for runs in grouped.values())
    single = any(len(runs) == 1 for runs in grouped.values())
    smoothing = f"each run averaged over {window} iterations" if window > 1 else "unsmoothed"
    parts = [smoothing]
    if several:
        parts.insert(0, "line: mean of the seeds; band: least to greatest seed")
    if single and window > 1:
        parts.append("pale line: unsmoothed")
    return "; ".join(parts)


# --- small pieces ---------------------------------------------------------------------------------


def _value(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _has(run: LearningCurve, metric: str) -> bool:
    return metric in run.columns and bool(np.isfinite(run.columns[metric]).any())


def _cycled(colours: Sequence[str], number: int) -> list[str]:
    return [colours[index % len(colours)] for index in range(number)]


def _config(path: Path) -> dict[str, Any]:
    """The run's settings, for labels only: none of them is a reason not to draw."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _labels(first: Mapping[str, LearningCurve], leaves: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Identity of a group -> its label: algorithm and environment, and what else tells equal ones apart."""
    names = {identity: _name(run) for identity, run in first.items()}
    labels = {}
    for identity, name in names.items():
        twins = [leaves[other] for other in names if names[other] == name]
        keys = sorted({key for twin in twins for key in twin})
        differing = [key for key in keys if len({repr(twin.get(key)) for twin in twins}) > 1]
        own = [f"{key}={leaves[identity].get(key)}" for key in differing[:3]]
        labels[identity] = " ".join([name, *own])
    counts = Counter(labels.values())  # equal labels: more than three keys differ, or folders of one name
    return {
        identity: label if counts[label] == 1 else f"{label} ({first[identity].folder})"
        for identity, label in labels.items()
    }


def _name(run: LearningCurve) -> str:
    algorithm = run.config.get("algorithm")
    return " ".join(str(part) for part in (algorithm, _env_id(run)) if part) or run.folder.resolve().name


def _env_id(run: LearningCurve) -> str | None:
    env = run.config.get("env")
    return str(env["id"]) if isinstance(env, dict) and "id" in env else None
