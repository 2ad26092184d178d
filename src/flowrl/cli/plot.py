"""`flowrl plot`: learning curves of one or more runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Imports, Json, choice, code_options, import_code
from flowrl.cli.output import next_command, print_json, print_line, say

AXES = ("env_steps", "seconds", "iteration")


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders; seeds of one recipe share a line.")],
    out: Annotated[
        Path | None, typer.Option(help="The figure to write (.png, .svg, .pdf); default: in the folder of the runs.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric to draw, repeatable; default: return, success rate, episode length, clipped share, CFM loss "
            "and explained variance."
        ),
    ] = None,
    x: Annotated[str, typer.Option(help="The horizontal axis: env_steps, seconds or iteration.")] = "env_steps",
    smooth: Annotated[
        int | None, typer.Option(min=1, help="Iterations averaged around each point; default: a fiftieth of the run.")
    ] = None,
    field: Annotated[
        bool, typer.Option("--field", help="Draw the actions and 20 episodes of GridWorld policies instead.")
    ] = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Draw the learning curves of runs.

    Runs that differ only in their seed share a line, in a band from the least to the greatest.
    """
    from flowrl.reporting.plots import style

    import_code(imports)
    out = out or _common_folder(runs) / ("field.png" if field else "curves.png")
    style.check(out)
    if field:
        from flowrl.experiments import gridworld_plot

        gridworld_plot.draw(runs, out)
        print_json({"figure": str(out)}) if as_json else print(out)
        next_command("flowrl plot", *runs)
    else:
        _draw_curves(list(dict.fromkeys(runs)), out, metric or [], choice("--x", x, AXES), smooth, as_json)


def _draw_curves(runs: list[Path], out: Path, metrics: list[str], x: str, smooth: int | None, as_json: bool) -> None:
    from flowrl.reporting.plots import learning_curves, style

    loaded = [learning_curves.load(run) for run in runs]
    for run in loaded:
        learning_curves.column(run, x)  # raises UsageError when there is none
    for name in metrics:
        if not any(name in run.columns for run in loaded):
            learning_curves.column(loaded[0], name)
    grouped = learning_curves.groups(loaded)
    style.save(learning_curves.draw(grouped, metrics, x=x, window=smooth), out)
    for members in grouped.values():
        for run, last, longest in learning_curves.early_stops(members, x):
            say(f"{run.folder} ends at {last:,.0f} of {longest:,.0f} {x}: so does the band of its seeds.")
    if as_json:
        summary = {label: learning_curves.summary(members) for label, members in grouped.items()}
        print_json({"figure": str(out), "groups": summary})
    else:
        for label, members in grouped.items():
            print_line(learning_curves.sentence(label, members))
        print(out)
    next_command("flowrl eval", loaded[0].folder, *code_options(loaded[0].config))


def _common_folder(runs: list[Path]) -> Path:
    """Return the folder of the only run, or the innermost folder that holds all runs."""
    folders = [run if run.is_dir() else run.parent for run in runs]
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
