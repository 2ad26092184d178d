"""A comparison on a terminal: what its page says, in tables narrow enough to be read there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table

from flowrl.experiments.comparison.figures import TITLES
from flowrl.experiments.comparison.markdown import (
    Measured,
    introduction,
    measured,
    scale_lines,
    title,
    with_interval,
)
from flowrl.experiments.comparison.results import AlgorithmResult, Comparison, Improvement
from flowrl.reporting.console import count, duration


def screen(comparison: Comparison, width: int) -> str:
    """All of it as plain text of at most `width` columns; a cell that is too wide goes on below itself."""
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        for part in _parts(comparison):
            console.print(part)
            console.print()
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _parts(comparison: Comparison) -> Iterable[RenderableType]:
    """What stands between two empty lines."""
    overall = comparison.overall
    yield title(comparison)
    yield introduction(comparison)
    if len(overall.tasks) > 1:
        yield Group("Overall:", _overall(comparison))
        yield Group("The returns that count as 0 and 1:", _listed(scale_lines(comparison)))
        if overall.improvements:
            pairs = _improvements({"all": overall.improvements}, comparison.modes)
            yield Group("Probability of improvement, over all tasks:", pairs)
    for mode in comparison.modes:
        yield Group(f"Task by task, {TITLES[mode]}:", _tasks(comparison, mode))
    for rows in measured(comparison):
        yield Group("What else was measured:", _measures(rows))
    improvements = {name: task.improvements for name, task in comparison.tasks.items() if task.improvements}
    if improvements:
        yield Group(
            "Probability of improvement, task by task:", _improvements(improvements, comparison.modes)
        )
    if comparison.missing:
        yield Group("Missing cells:", _listed(comparison.missing))
    if comparison.notes:
        yield Group("Notes:", _listed(comparison.notes))


def _overall(comparison: Comparison) -> Table:
    table = _table(["algorithm", "action"], ["runs", "mean score", "IQM of scores"])
    for mode in comparison.modes:
        for name, total in comparison.overall.totals.items():
            score = total.scores[mode]
            means = with_interval(score.mean), with_interval(score.iqm)
            table.add_row(name, score.action, str(total.runs), *means)
    return table


def _tasks(comparison: Comparison, mode: str) -> Table:
    table = _table(["task", "algorithm"], ["runs", "mean return", "IQM", "steps", "training"])
    for task_name, task in comparison.tasks.items():
        for place, (name, entry) in enumerate(task.entries.items()):
            table.add_row("" if place else task_name, name, *_numbers(entry, mode))
    return table


def _numbers(entry: AlgorithmResult, mode: str) -> list[str]:
    steps = [trial.env_steps for trial in entry.trials]
    return [
        str(len(entry.trials)),
        with_interval(entry.scores[mode].mean),
        with_interval(entry.scores[mode].iqm),
        " to ".join(dict.fromkeys(count(number) for number in (min(steps), max(steps)))),
        duration(fmean(trial.seconds for trial in entry.trials)),
    ]


def _measures(rows: Sequence[Measured]) -> Table:
    """Without the intervals, which would not stand side by side."""
    table = _table(["task", "algorithm", "action"], list(rows[0].measures))
    for row in rows:
        means = (f"{mean.value:.4g}" for mean in row.measures.values())
        table.add_row(row.task, row.algorithm, row.action, *means)
    return table


def _improvements(tasks: Mapping[str, Sequence[Improvement]], modes: Sequence[str]) -> Table:
    """The pairs of algorithms on each of the tasks, with a column for each noise mode."""
    table = _table(["task", "a run of", "beats one of"], [f"{mode} noise" for mode in modes])
    for task, improvements in tasks.items():
        pairs = groupby(improvements, key=lambda pair: (pair.first, pair.second))
        for place, ((first, second), by_mode) in enumerate(pairs):
            probabilities = [with_interval(pair.probability, "{:.2f}") for pair in by_mode]
            table.add_row("" if place else task, first, second, *probabilities)
    return table


def _table(names: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of names, then columns of numbers, which are aligned to the right."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, overflow="fold", justify="right")
    return table


def _listed(lines: Iterable[str]) -> Table:
    table = Table.grid(padding=(0, 1))
    for line in lines:
        table.add_row("-", line)
    return table
