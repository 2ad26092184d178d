"""A comparison in Markdown: overall, by pairs of algorithms, task by task, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

Document = Mapping[str, Any]  # as `flowrl.comparison.compare` makes it


def page(document: Document) -> str:
    """The whole page."""
    overall = document["overall"]
    several = len(overall["tasks"]) > 1
    parts = [f"# {' · '.join(document['algorithms'])}", _head(document)]
    if several:
        parts += ["## Overall", _overall(document), _scales(document)]
        if overall["improvement"]:
            parts += ["## Probability of improvement", _improvements({"all tasks": overall})]
    parts += ["## Tasks", _tasks(document)]
    if any(own["improvement"] for own in document["tasks"].values()):
        parts += ["## Probability of improvement on each task", _improvements(document["tasks"])]
    if document["missing"]:
        parts += ["## Missing cells", _listed(document["missing"])]
    if document["notes"]:
        parts += ["## Notes", _listed(document["notes"])]
    return "\n\n".join(parts) + "\n"


def _head(document: Document) -> str:
    groups = [group for task in document["tasks"].values() for group in task["algorithms"].values()]
    episodes = sorted({number for group in groups for number in group["episodes"]})
    told = " or ".join(map(str, episodes))
    return (
        f"A run's score is its mean return over {told} evaluation episodes. IQM: the mean of the middle half of the "
        "runs. In brackets: 95 % bootstrap interval over the seeds, drawn anew within each task. Flows act from "
        "random or from zero noise, a Gaussian policy by sampled or by mean actions."
    )


def _overall(document: Document) -> str:
    rows = [
        [name, told["action"], str(own["runs"]), *(_estimate(told[key]) for key in ("mean", "iqm"))]
        for mode in document["noise"]
        for name, own in document["overall"]["algorithms"].items()
        for told in [own["noise"][mode]]
    ]
    return _table(["algorithm", "action", "runs", "mean score", "IQM of scores"], rows, numbers=3)


def _scales(document: Document) -> str:
    """How returns became scores, tasks of one scale together."""
    tasks: dict[tuple[float, float, str], list[str]] = {}
    for task in document["overall"]["tasks"]:
        scale = document["tasks"][task]["scale"]
        tasks.setdefault((scale["low"], scale["high"], scale["reason"]), []).append(task)
    told = [
        f"{', '.join(names)}: {low:g} to {high:g}, {reason}"
        + (" (all the same: every score is 0.5)" if low == high else "")
        for (low, high, reason), names in tasks.items()
    ]
    return "The returns that count as 0 and 1:\n\n" + _listed(told)


def _improvements(compared: Mapping[str, Document]) -> str:
    """The pairs of algorithms on each of `compared`: a task's name, or what stands for all, -> its numbers."""
    rows = [
        [name, pair["first"], pair["second"], pair["noise"], _estimate(pair, "{:.2f}")]
        for name, own in compared.items()
        for pair in own["improvement"]
    ]
    return _table(["task", "how likely a run of", "beats one of", "noise", "probability"], rows, numbers=1)


def _tasks(document: Document) -> str:
    header = ["task", "algorithm", "action", "seeds", "mean return", "IQM", "env steps", "training s"]
    rows = []
    for task, own in document["tasks"].items():
        for mode in document["noise"]:
            for name, group in own["algorithms"].items():
                told = group["noise"][mode]
                steps = sorted(set(group["env_steps"]))
                rows.append(
                    [
                        task,
                        name,
                        told["action"],
                        str(len(group["seeds"])),
                        *(_estimate(told[key]) for key in ("mean", "iqm")),
                        " to ".join(dict.fromkeys(f"{number:,}" for number in (steps[0], steps[-1]))),
                        f"{fmean(group['seconds']):,.0f}",
                    ]
                )
    return _table(header, rows, numbers=5)


def _estimate(told: Mapping[str, Any], form: str = "{:.4g}") -> str:
    value, interval = form.format(told["value"]), told["ci95"]
    return f"{value} [{', '.join(form.format(end) for end in interval)}]" if interval else f"{value} [?]"


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
