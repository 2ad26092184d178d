"""`flowrl samplers` lists the samplers; `flowrl samplers check NAME` runs the conformance test of one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from flowrl.cli.arguments import Json, code_options
from flowrl.cli.checked_command import CheckedCommand
from flowrl.cli.output import next_command, print_json, print_table
from flowrl.contracts.errors import ThresholdMissed

if TYPE_CHECKING:
    from flowrl.samplers.discovery import SamplerDescription

app = typer.Typer(
    help="List the samplers, or check one.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    rich_markup_mode=None,
)


@app.callback()
def table(context: typer.Context, json: Json = False) -> None:
    """List the samplers, or check one.

    The list shows their order, velocity evaluations (NFE) per step, options, and the package of each.
    """
    if context.invoked_subcommand is not None:
        return
    from flowrl.samplers import discovery

    descriptions = discovery.describe()
    if json:
        print_json([dataclasses.asdict(description) for description in descriptions])
    else:
        print_table(
            ["name", "order", "NFE/step", "options", "origin", "error"],
            [_cells(description) for description in descriptions],
            numbers=("order", "NFE/step"),
        )
    next_command("flowrl samplers check heun")


@app.command(cls=CheckedCommand, epilog="Example: flowrl samplers check my_sampler.py:MySampler")
def check(
    name: str = typer.Argument(metavar="NAME", help="A sampler's name, path/file.py:Class, or a fitted FILE.yaml."),
    steps: int | None = typer.Option(
        None, "--steps", min=1, help="Steps of the grid for the checks; the order is measured on several grids."
    ),
    json: Json = False,
) -> None:
    """Run the conformance test of a sampler. Exits with 7 when a property fails."""
    from flowrl.config import fitted_file
    from flowrl.contracts import user_code
    from flowrl.experiments import build
    from flowrl.samplers import registry
    from flowrl.samplers.conformance import check_conformance

    user_code.name_code(name)
    registered, own = fitted_file.named(name)
    results = check_conformance(lambda **options: registry.make(registered, own | options), steps)
    failed = [result.property for result in results if result.passed is False]
    if json:
        rows = [dataclasses.asdict(result) for result in results]
        print_json({"sampler": name, "passed": not failed, "findings": rows})
    else:
        grades = {True: "pass", False: "FAIL", None: "info"}
        print_table(
            ["property", "result", "measured"],
            [[result.property, grades[result.passed], result.measured] for result in results],
        )
    if failed:
        raise ThresholdMissed(f"sampler {name!r} fails {len(failed)} of {len(results)}: {'; '.join(failed)}.")
    if (newest := build.newest_flow_run()) is not None:
        run, config = newest
        next_command("flowrl eval", run, "--sampler", name, *code_options(config | {"sampler": {}}))
    else:
        next_command("flowrl train gridworld.yaml")


def _cells(row: SamplerDescription) -> list[str]:
    options = [option.name if option.default is None else f"{option.name}={option.default}" for option in row.options]
    declared = ["-" if value is None else str(value) for value in (row.order, row.nfe_per_step)]
    return [row.name, *declared, ", ".join(options), row.origin, row.error or ""]
