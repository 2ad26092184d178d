"""The content of a comparison as headings, paragraphs, lists and tables: the page and the terminal render the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from flowrl.experiments.comparison.results import (
    AlgorithmResult,
    Comparison,
    Estimate,
    Improvement,
    MeasureEstimate,
    Scale,
)

MODE_TITLES = {"random": "random noise; Gaussian: sampled actions", "zero": "zero noise; Gaussian: mean actions"}


def mode_title(mode: str) -> str:
    """Return the heading of a noise: 'random noise; Gaussian: sampled actions', '0.5 random noise'."""
    return MODE_TITLES.get(mode, f"{mode} noise")


@dataclass(frozen=True)
class ResultTable:
    """A table of text cells."""

    header: list[str]
    rows: list[list[str]]
    numbers: int  # how many of the last columns hold numbers, which are aligned to the right

    def without(self, name: str) -> ResultTable:
        """Leave out the column `name`, which holds no numbers."""
        place = self.header.index(name)
        header, *rows = ([*row[:place], *row[place + 1 :]] for row in (self.header, *self.rows))
        return ResultTable(header, rows, self.numbers)


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it: paragraphs (text), lists (of text) and tables."""

    heading: str
    blocks: list[str | list[str] | ResultTable]


def title(comparison: Comparison) -> str:
    """Name the algorithms that are compared."""
    return " · ".join(comparison.algorithms)


def introduction(comparison: Comparison) -> str:
    """Explain the numbers in a paragraph."""
    results = [result for task in comparison.tasks.values() for result in task.algorithms.values()]
    episodes = sorted({number for result in results for number in result.episodes})
    return (
        f"A run's score is its mean return over {' or '.join(map(str, episodes))} evaluation episodes. IQM: the mean "
        "of the middle half of the runs. In brackets: 95 % bootstrap interval over the seeds, drawn within each task. "
        "Flows act from random or from zero noise, a Gaussian policy by sampled or by mean actions."
    )


def sections(comparison: Comparison, *, compact: bool) -> Iterator[Section]:
    """Yield everything below the introduction.

    `compact` is for a terminal: a table of tasks for each noise mode, and measures without their intervals.
    """
    overall = comparison.overall
    if len(overall.tasks) > 1:
        scales = _scales(comparison)
        yield Section("Overall", [_overall(comparison), "The returns that count as 0 and 1:", scales])
        if overall.improvement:
            yield Section("Probability of improvement", [_improvements({"all tasks": overall.improvement})])
    if compact:
        for mode in comparison.noise:
            yield Section(f"Tasks, {mode_title(mode)}", [_tasks(comparison, [mode]).without("action")])
    else:
        yield Section("Tasks", [_tasks(comparison, comparison.noise)])
    if measures := _measures(comparison, intervals=not compact):
        yield Section("What else was measured", [*measures])
    pairs = {name: task.improvement for name, task in comparison.tasks.items()}
    if any(pairs.values()):
        yield Section("Probability of improvement on each task", [_improvements(pairs)])
    if comparison.missing:
        yield Section("Missing trials", [list(comparison.missing)])
    if comparison.notes:
        yield Section("Notes", [list(comparison.notes)])


# --- tables ---------------------------------------------------------------------------------------


def _overall(comparison: Comparison) -> ResultTable:
    rows = [
        [name, score.action, str(total.runs), _with_interval(score.mean), _with_interval(score.iqm)]
        for mode in comparison.noise
        for name, total in comparison.overall.algorithms.items()
        for score in [total.noise[mode]]
    ]
    return ResultTable(["algorithm", "action", "runs", "mean score", "IQM of scores"], rows, numbers=3)


def _scales(comparison: Comparison) -> list[str]:
    """A line for the tasks of each scale."""
    tasks: dict[Scale, list[str]] = {}
    for name in comparison.overall.tasks:
        tasks.setdefault(comparison.tasks[name].scale, []).append(name)
    return [
        f"{', '.join(names)}: {scale.low:g} to {scale.high:g}, {scale.reason}"
        + (" (all the same: every score is 0.5)" if scale.low == scale.high else "")
        for scale, names in tasks.items()
    ]


def _improvements(pairs: Mapping[str, Sequence[Improvement]]) -> ResultTable:
    """The pairs of algorithms on each task, or on "all tasks"."""
    rows = [
        [task, pair.first, pair.second, pair.noise, _with_interval(pair, "{:.2f}")]
        for task, improvements in pairs.items()
        for pair in improvements
    ]
    header = ["task", "how likely a run of", "beats one of", "noise", "probability"]
    return ResultTable(header, rows, numbers=1)


def _tasks(comparison: Comparison, modes: Sequence[str]) -> ResultTable:
    header = ["task", "algorithm", "action", "seeds", "mean return", "IQM", "env steps", "train s"]
    rows = [
        [task_name, name, *_training(result, mode)]
        for task_name, task in comparison.tasks.items()
        for mode in modes
        for name, result in task.algorithms.items()
    ]
    return ResultTable(header, rows, numbers=5)


def _training(result: AlgorithmResult, mode: str) -> list[str]:
    scores, steps = result.noise[mode], result.env_steps
    return [
        scores.action,
        str(len(result.seeds)),
        _with_interval(scores.mean),
        _with_interval(scores.iqm),
        " to ".join(dict.fromkeys(f"{number:,}" for number in (min(steps), max(steps)))),
        f"{fmean(result.seconds):,.0f}",
    ]


def _measures(comparison: Comparison, *, intervals: bool) -> list[ResultTable]:
    """A table for each set of measures that environments have, in the order of the tasks."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for task_name, task in comparison.tasks.items():
        for mode in comparison.noise:
            for name, result in task.algorithms.items():
                scores = result.noise[mode]
                if scores.measures:
                    means = [_with_interval(mean, intervals=intervals) for mean in scores.measures.values()]
                    row = [task_name, name, scores.action, *means]
                    tables.setdefault(tuple(scores.measures), []).append(row)
    return [
        ResultTable(["task", "algorithm", "action", *names], rows, numbers=len(names)) for names, rows in tables.items()
    ]


def _with_interval(
    estimate: Estimate | Improvement | MeasureEstimate, form: str = "{:.4g}", *, intervals: bool = True
) -> str:
    """'954.3 [912.1, 978.2]', or '954.3 [?]' where there is no interval, or without `intervals` '954.3'."""
    value = form.format(estimate.value)
    ends = ", ".join(form.format(end) for end in estimate.ci95) if estimate.ci95 else "?"
    return f"{value} [{ends}]" if intervals else value
