"""A comparison in Markdown: overall, by pairs of algorithms, task by task, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from flowrl.experiments.comparison.results import AlgorithmResult, Comparison, Estimate, Improvement, Scale


@dataclass(frozen=True)
class Measured:
    """What else was measured of an algorithm on a task under one noise mode."""

    task: str
    algorithm: str
    action: str
    measures: Mapping[str, Estimate]  # at least one


def page(comparison: Comparison) -> str:
    """The whole page."""
    overall = comparison.overall
    parts = [f"# {title(comparison)}", introduction(comparison)]
    if len(overall.tasks) > 1:
        scales = f"The returns that count as 0 and 1:\n\n{_listed(scale_lines(comparison))}"
        parts += ["## Overall", _overall(comparison), scales]
        if overall.improvements:
            parts += ["## Probability of improvement", _improvements({"all tasks": overall.improvements})]
    parts += ["## Tasks", _tasks(comparison)]
    if tables := [_measures(rows) for rows in measured(comparison)]:
        parts += ["## What else was measured", *tables]
    pairs = {name: task.improvements for name, task in comparison.tasks.items()}
    if any(pairs.values()):
        parts += ["## Probability of improvement on each task", _improvements(pairs)]
    if comparison.missing:
        parts += ["## Missing cells", _listed(comparison.missing)]
    if comparison.notes:
        parts += ["## Notes", _listed(comparison.notes)]
    return "\n\n".join(parts) + "\n"


# --- in words -------------------------------------------------------------------------------------


def title(comparison: Comparison) -> str:
    """Who is compared."""
    return " · ".join(comparison.algorithms)


def introduction(comparison: Comparison) -> str:
    """What the numbers are, in a paragraph."""
    episodes = {trial.episodes for entry in _entries(comparison) for trial in entry.trials}
    return (
        f"A run's score is its mean return over {' or '.join(map(str, sorted(episodes)))} evaluation episodes. IQM: "
        "the mean of the middle half of the runs. In brackets: 95 % bootstrap interval over the seeds, drawn anew "
        "within each task. Flows act from random or from zero noise, a Gaussian policy by sampled or by mean actions."
    )


def scale_lines(comparison: Comparison) -> list[str]:
    """How returns became scores, a line for the tasks of each scale."""
    tasks: dict[Scale, list[str]] = {}
    for name in comparison.overall.tasks:
        tasks.setdefault(comparison.tasks[name].scale, []).append(name)
    return [
        f"{', '.join(names)}: {scale.low:g} to {scale.high:g}, {scale.reason}"
        + (" (all the same: every score is 0.5)" if scale.low == scale.high else "")
        for scale, names in tasks.items()
    ]


def with_interval(estimate: Estimate, form: str = "{:.4g}") -> str:
    """'954.3 [912.1, 978.2]', or '954.3 [?]' where the interval cannot be told."""
    ends = ", ".join(form.format(end) for end in estimate.interval) if estimate.interval else "?"
    return f"{form.format(estimate.value)} [{ends}]"


def measured(comparison: Comparison) -> list[list[Measured]]:
    """The rows of a table for each set of measures that environments have, in the order of the tasks."""
    tables: dict[tuple[str, ...], list[Measured]] = {}
    for task_name, task in comparison.tasks.items():
        for mode in comparison.modes:
            for name, entry in task.entries.items():
                if measures := entry.measures[mode]:
                    row = Measured(task_name, name, entry.scores[mode].action, measures)
                    tables.setdefault(tuple(measures), []).append(row)
    return list(tables.values())


def _entries(comparison: Comparison) -> list[AlgorithmResult]:
    return [entry for task in comparison.tasks.values() for entry in task.entries.values()]


# --- tables ---------------------------------------------------------------------------------------


def _overall(comparison: Comparison) -> str:
    rows = [
        [name, score.action, str(total.runs), with_interval(score.mean), with_interval(score.iqm)]
        for mode in comparison.modes
        for name, total in comparison.overall.totals.items()
        for score in [total.scores[mode]]
    ]
    return _table(["algorithm", "action", "runs", "mean score", "IQM of scores"], rows, numbers=3)


def _improvements(pairs: Mapping[str, Sequence[Improvement]]) -> str:
    """The pairs of algorithms on each task, or on what stands for all of them."""
    rows = [
        [task, pair.first, pair.second, pair.mode, with_interval(pair.probability, "{:.2f}")]
        for task, improvements in pairs.items()
        for pair in improvements
    ]
    return _table(["task", "how likely a run of", "beats one of", "noise", "probability"], rows, numbers=1)


def _tasks(comparison: Comparison) -> str:
    header = ["task", "algorithm", "action", "seeds", "mean return", "IQM", "env steps", "training s"]
    rows = [
        [task_name, name, *_row(entry, mode)]
        for task_name, task in comparison.tasks.items()
        for mode in comparison.modes
        for name, entry in task.entries.items()
    ]
    return _table(header, rows, numbers=5)


def _row(entry: AlgorithmResult, mode: str) -> list[str]:
    score = entry.scores[mode]
    steps = [trial.env_steps for trial in entry.trials]
    return [
        score.action,
        str(len(entry.trials)),
        with_interval(score.mean),
        with_interval(score.iqm),
        " to ".join(dict.fromkeys(f"{number:,}" for number in (min(steps), max(steps)))),
        f"{fmean(trial.seconds for trial in entry.trials):,.0f}",
    ]


def _measures(rows: Sequence[Measured]) -> str:
    names = list(rows[0].measures)
    cells = [
        [row.task, row.algorithm, row.action, *(with_interval(mean) for mean in row.measures.values())]
        for row in rows
    ]
    return _table(["task", "algorithm", "action", *names], cells, numbers=len(names))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A Markdown table that reads well as text too; the last `numbers` columns are aligned to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    right = [column >= len(header) - numbers for column in range(len(header))]
    rule = [
        "-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)
    ]
    lines = []
    for row in [header, rule, *rows]:
        cells = zip(row, widths, right, strict=True)
        lines.append(
            "| " + " | ".join(f"{text:{'>' if r else '<'}{width}}" for text, width, r in cells) + " |"
        )
    return "\n".join(lines)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
