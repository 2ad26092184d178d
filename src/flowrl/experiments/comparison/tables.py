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
            every = {"all tasks": overall.improvement}
            yield Section("Probability of improvement", [_improvements(every)])
            yield Section("Who is ahead", [VERDICT, _verdicts(every)])
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
        yield Section("Who is ahead on each task", [VERDICT, _verdicts(pairs)])
    if comparison.speed:
        yield Section("Time to equal return", [SPEED, _speed(comparison)])
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


def _verdicts(pairs: Mapping[str, Sequence[Improvement]]) -> ResultTable:
    """Who is ahead, if that can be said of so many runs."""
    rows = []
    for task, improvements in pairs.items():
        for pair in improvements:
            least = "?" if pair.detectable is None else f"{pair.detectable:.3g}"
            difference = f"{pair.difference:+.3g} ({least})"
            rows.append([task, f"{pair.first} - {pair.second}", pair.noise, difference, pair.winner or "not decided"])
    return ResultTable(["task", "pair", "noise", "difference", "ahead"], rows, numbers=2)


VERDICT = (
    "The difference of the mean scores, and in brackets the least difference that so many runs would show (t-test at "
    "95 % with a power of 80 %). An algorithm is called ahead by at least that much, else nothing is decided."
)
SPEED = (
    "Seconds of training and env steps until the median run, averaged over 20 iterations, is at so much of the way to "
    "the best return of the task; in brackets how many runs get there. Area: mean normalised return over the steps "
    "that all have."
)


def _speed(comparison: Comparison) -> ResultTable:
    rows = []
    for task, algorithms in comparison.speed.items():
        for name, speed in algorithms.items():
            cells = [
                f"{_reached(speed.seconds[share], speed.env_steps[share])} ({number})"
                for share, number in speed.reached.items()
            ]
            area = "-" if speed.area is None else _with_interval(speed.area, "{:.2f}")
            rows.append([task, name, *cells, area])
    shares = next(iter(next(iter(comparison.speed.values())).values())).reached
    return ResultTable(["task", "algorithm", *shares, "area"], rows, numbers=len(shares) + 1)


def _reached(seconds: float | None, steps: float | None) -> str:
    """'12.3 s, 131k'; '-' where the return is not reached."""
    return "-" if seconds is None or steps is None else f"{_short(seconds)} s, {_short(steps)}"


def _short(number: float) -> str:
    """'12.3', '845', '131k'."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}" if number < 10_000 else f"{number / 1000:,.0f}k"


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
