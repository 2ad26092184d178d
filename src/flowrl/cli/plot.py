"""`flowrl plot`: learning curves of one or more runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.output import next_command, print_json, say
from flowrl.contracts.errors import UsageError

AXES = ("env_steps", "seconds", "iteration")


def plot(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders; seeds of one recipe share a line.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The figure to write (.png, .svg, .pdf); default: in the folder of the runs."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric to draw (repeatable); default: the six that tell most.")
    ] = None,
    x: Annotated[
        str, typer.Option(help="What runs to the right: env_steps, seconds or iteration.")
    ] = "env_steps",
    smooth: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations averaged around each point; default: a fiftieth of the run."),
    ] = None,
    field: Annotated[
        bool, typer.Option("--field", help="Draw GridWorld policies instead: their actions and 20 episodes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Draw learning curves, or what GridWorld policies do.

    Runs of one recipe share a line, in a band over their seeds.
    """
    from flowrl.reporting.plots import learning_curves, style

    out = out or _home(runs) / ("field.png" if field else "curves.png")
    style.check_suffix(out)
    if field:
        from flowrl.experiments import gridworld_plot

        gridworld_plot.draw(runs, out)
        print_json({"figure": str(out)}) if as_json else print(out)
        next_command("flowrl plot", *runs)
        return
    if x not in AXES:
        raise UsageError(f"--x {x}: choose one of {', '.join(AXES)}.")
    loaded = [learning_curves.load(run) for run in dict.fromkeys(runs)]
    for run in loaded:
        learning_curves.column(run, x)
    for name in metric or ():
        if not any(name in run.columns for run in loaded):
            learning_curves.column(loaded[0], name)  # says which there are
    grouped = learning_curves.groups(loaded)
    style.save(learning_curves.draw(grouped, metric or (), x=x, window=smooth), out)
    for members in grouped.values():
        for run, last, longest in learning_curves.early_stops(members, x):
            say(f"{run.folder} ends at {last:,.0f} of {longest:,.0f} {x}: so does the band of its seeds.")
    if as_json:
        summary = {label: learning_curves.summary(members) for label, members in grouped.items()}
        print_json({"figure": str(out), "groups": summary})
    else:
        for label, members in grouped.items():
            print(learning_curves.sentence(label, members))
        print(out)
    next_command("flowrl eval", loaded[0].folder)


def _home(runs: list[Path]) -> Path:
    """The folder that a figure of `runs` belongs into: the one run's, or the nearest that holds all of them."""
    folders = [run if run.is_dir() else run.parent for run in runs]
    return (
        Path(os.path.commonpath([folder.resolve() for folder in folders])) if len(folders) > 1 else folders[0]
    )
