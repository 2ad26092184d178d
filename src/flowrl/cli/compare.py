"""`flowrl compare`: algorithms side by side on the tasks of one or more suites."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.output import next_command, print_json, say

if TYPE_CHECKING:
    from flowrl.comparison import Grid
    from flowrl.reporting.curves import Run

NAME = "compare"


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders that `flowrl suite` wrote.")],
    noise: Annotated[
        str, typer.Option(help="random, zero or both (Gaussian policy: sampled or mean actions).")
    ] = "both",
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Returns that count as 0 and 1; default: a control task's range, else the least and greatest.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for compare.md, .json and the figures; default: the first DIR."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Compare the algorithms of one or more suites.

    Mean, IQM and probability of improvement with 95 % intervals, per task and overall. Prints a Markdown page, and
    writes it with the numbers, the learning curves and the performance profile.
    """
    from flowrl import comparison
    from flowrl.reporting import comparison_figure, comparison_page, figure

    modes = comparison.noise_modes(noise)
    asked = None if scale is None else comparison.scale_of(scale)
    grid = comparison.read(folders)
    document = comparison.compare(grid, modes, asked)
    page = comparison_page.page(document)
    into = out or folders[0]
    into.mkdir(parents=True, exist_ok=True)
    files = [into / f"{NAME}.md", into / f"{NAME}.json"]
    files[0].write_text(page)
    files[1].write_text(dumps(document, indent=2, allow_nan=False) + "\n")
    figures = {"curves": comparison_figure.curves(_curves(grid), grid.algorithms)}
    if document["overall"]["profile"]:
        figures["profile"] = comparison_figure.profile(document)
    for name, drawing in figures.items():
        files.append(into / f"{NAME}-{name}.png")
        figure.save(drawing, files[-1])
    print_json(document) if json else print(page, end="")
    say(f"wrote {', '.join(map(str, files))}")
    first = next(iter(grid.groups.values())).runs
    next_command("flowrl plot", *(run.folder for run in first))


def _curves(grid: Grid) -> dict[str, dict[str, list[Run]]]:
    """Task -> algorithm -> the learning curves of its runs, without those that are gone."""
    from flowrl.errors import UsageError
    from flowrl.reporting import curves

    found: dict[str, dict[str, list[Run]]] = {task: {} for task in grid.tasks}
    for (task, algorithm), group in grid.groups.items():
        for run in group.runs:
            try:
                found[task].setdefault(algorithm, []).append(curves.load(run.folder))
            except UsageError as error:
                say(f"no learning curve of {run.folder}: {error}")
    return found
