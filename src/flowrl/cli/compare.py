"""`flowrl compare`: algorithms side by side on the tasks of one or more suites."""

from __future__ import annotations

import re
import sys
from json import dumps
from math import isfinite
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import Json, choice
from flowrl.cli.output import next_command, print_json, print_line, print_table, printable, say
from flowrl.cli.progress import ProgressBar, progress_bar
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.storage import files as storage
from flowrl.storage.files import write_text

if TYPE_CHECKING:
    from flowrl.experiments.comparison.load import LoadedSuites
    from flowrl.experiments.comparison.results import Comparison, Scale
    from flowrl.reporting.plots.learning_curves import LearningCurve

NAME = "compare"  # of the files
WIDEST = 100  # columns of a terminal that are used: longer lines are hard to follow


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders that `flowrl suite` wrote; with --published also runs.")
    ],
    noise: Annotated[
        str,
        typer.Option(help="random, zero or both (Gaussian policy: sampled or mean actions), or a scale, such as 0.5."),
    ] = "both",
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Returns that count as 0 and 1; default: the task's known range, else the least and greatest.",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Compare runs by the values of this key of their recipes; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.md, .json and the figures; default: the first DIR.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Also write one page with tables, figures and videos, to be sent to a colleague."
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Set runs beside published results for their tasks, with the sources.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare the algorithms of one or more suites, or runs with published results.

    Mean, IQM and probability of improvement with 95 % intervals, per task and overall. Prints tables on a terminal
    and a Markdown page elsewhere. Writes the page, the numbers, the learning curves and the performance profile.
    """
    from flowrl.experiments.comparison import compute, load, markdown, terminal

    if published:
        for option, given in (("--html", html), ("--out", out), ("--scale", scale), ("--by", by)):
            if given:
                raise UsageError(f"{option} does not go with --published, which prints a table. Leave one of them out.")
        _published(folders, as_json=json)
        return
    if html is not None:
        storage.check_suffix(html, "--html", "pages", (".html", ".htm"))
        storage.check(html, "--html")
    modes = noise_modes(noise)
    common_scale = None if scale is None else scale_of(scale)
    with progress_bar() as bar:
        bar.update(f"reading {', '.join(map(str, folders))}")
        suites = load.read(folders, by or ())
        bar.begin()
        curves = _curves(suites)
        comparison = compute.compare(suites, modes, common_scale, bar.update, curves)
        page = markdown.page(comparison)
        bar.begin()
        bar.update("drawing")
        files = _write(comparison, page, curves, out or folders[0])
        if html is not None:
            write_text(html, _html(comparison, suites, files, bar))
            files.append(html)
    if json:
        print_json(comparison.as_dict())
    elif sys.stdout.isatty():
        for line in terminal.screen(comparison, min(WIDEST, get_terminal_size().columns)).splitlines():
            print(printable(line))
    else:
        print(page, end="")
    say(f"wrote {', '.join(map(str, files))}")
    first = next(iter(suites.groups.values())).runs
    next_command("flowrl plot", *(run.folder for run in first))


# --- output ---------------------------------------------------------------------------------------


def _write(
    comparison: Comparison, page: str, curves: dict[str, dict[str, list[LearningCurve]]], folder: Path
) -> list[Path]:
    """Write the page, the JSON document and the figures; return their paths."""
    from flowrl.experiments.comparison import figures
    from flowrl.reporting.plots import style

    files = [folder / f"{NAME}.md", folder / f"{NAME}.json"]
    write_text(files[0], page)
    write_text(files[1], dumps(comparison.as_dict(), indent=2, allow_nan=False) + "\n")
    drawings = {"curves": figures.curves(curves, comparison.algorithms)}
    if comparison.overall.profile:
        drawings["profile"] = figures.profile(comparison)
    for name, drawing in drawings.items():
        files.append(folder / f"{NAME}-{name}.png")
        style.save(drawing, files[-1])
    return files


CAPTIONS = {f"{NAME}-curves.png": "Learning curves", f"{NAME}-profile.png": "Performance profile"}


def _html(comparison: Comparison, suites: LoadedSuites, files: list[Path], bar: ProgressBar) -> str:
    """Return the comparison as one page, with the figures among `files` and videos of its best and its median run."""
    from flowrl.experiments.comparison import html

    figures = [
        html.Picture(file.read_bytes(), "image/png", CAPTIONS[file.name]) for file in files if file.name in CAPTIONS
    ]
    videos = html.videos(suites, comparison.noise[-1], say, bar.update)
    return html.page(comparison, figures, list(videos))


def _curves(suites: LoadedSuites) -> dict[str, dict[str, list[LearningCurve]]]:
    """Load the learning curves of all runs by task and algorithm, without those whose file is missing."""
    from flowrl.reporting.plots import learning_curves

    tasks: dict[str, dict[str, list[LearningCurve]]] = {task: {} for task in suites.tasks}
    for (task, algorithm), group in suites.groups.items():
        for run in group.runs:
            try:
                tasks[task].setdefault(algorithm, []).append(learning_curves.load(run.folder))
            except (UsageError, CheckpointError) as error:
                say(f"no learning curve of {run.folder}: {error}")
    return tasks


PUBLISHED_COLUMNS = ["algorithm", "return", "spread", "runs", "env steps", "source"]


def _published(folders: list[Path], *, as_json: bool) -> None:
    """Print runs beside published results, task by task, with notes on what differs."""
    from flowrl.experiments.comparison import published

    found = published.compare(folders)
    if as_json:
        print_json([each.as_dict() for each in found])
        return
    for each in found:
        print(printable(each.env))
        print_table(PUBLISHED_COLUMNS, each.rows(), PUBLISHED_COLUMNS[1:-1], PUBLISHED_COLUMNS[:1])
        print()
        for note in each.notes():
            print_line(f"- {note}")
        print()
    next_command("flowrl plot", *folders)


# --- arguments ------------------------------------------------------------------------------------


def noise_modes(text: str) -> tuple[str, ...]:
    """Parse 'both' → random and zero, '0.5' → 0.5 random. Raises UsageError for an unknown mode."""
    from flowrl.experiments.suite.trial import MODES
    from flowrl.policies.noise_modes import label

    if re.fullmatch(r"(0?\.\d+|[01])", text):
        return (label("random", float(text)),)
    return MODES if choice("--noise", text, (*MODES, "both")) == "both" else (text,)


def scale_of(text: str) -> Scale:
    """Parse '0,1000' → the scale from 0 to 1000. Raises UsageError unless these are two rising numbers."""
    from flowrl.experiments.comparison.results import Scale

    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        raise UsageError(f"--scale {text}: expected the returns that count as 0 and 1, as in --scale 0,1000.")
    return Scale(low, high, f"--scale {text}")
