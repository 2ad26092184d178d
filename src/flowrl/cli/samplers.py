"""`flowrl samplers` lists the samplers; `flowrl samplers check NAME` runs the conformance test on one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from flowrl.cli.output import next_command, print_json, print_table
from flowrl.contracts.errors import ThresholdMissed

if TYPE_CHECKING:
    from flowrl.samplers.discovery import Description

app = typer.Typer(
    help="List the samplers, or check one.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    rich_markup_mode=None,
)

JSON = typer.Option(False, "--json", help="Print the result as one JSON document.")


@app.callback()
def table(context: typer.Context, json: bool = JSON) -> None:
    """List the samplers, or check one.

    The list has their order, velocity evaluations (NFE) per step, options, and the package each comes from.
    """
    if context.invoked_subcommand is not None:
        return
    from flowrl.samplers import discovery

    descriptions = discovery.describe()
    if json:
        print_json([dataclasses.asdict(description) for description in descriptions])
    else:
        print_table(
            ["name", "order", "NFE/step", "options", "origin"],
            [
                [row.name, str(row.order), str(row.nfe_per_step), _options(row), row.origin]
                for row in descriptions
            ],
            numbers=("order", "NFE/step"),
        )
    next_command("flowrl samplers check heun")


@app.command()
def check(
    name: str = typer.Argument(metavar="NAME", help="A sampler's name, or path/file.py:Class."),
    steps: int | None = typer.Option(
        None,
        "--steps",
        min=1,
        help="Steps of the grid on which properties are checked; an order is measured on several.",
    ),
    json: bool = JSON,
) -> None:
    """Run the conformance test on a sampler. Exits with 7 when a property fails."""
    from flowrl.experiments import build
    from flowrl.samplers import registry
    from flowrl.samplers.conformance import examine

    findings = examine(lambda **options: registry.make(name, options), steps)
    failed = [finding.property for finding in findings if finding.passed is False]
    if json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print_json({"sampler": name, "passed": not failed, "findings": rows})
    else:
        verdicts = {True: "pass", False: "FAIL", None: "info"}
        print_table(
            ["property", "result", "measured"],
            [[finding.property, verdicts[finding.passed], finding.measured] for finding in findings],
        )
    if failed:
        raise ThresholdMissed(
            f"sampler {name!r} fails {len(failed)} of {len(findings)}: {'; '.join(failed)}."
        )
    run = build.newest_flow_run()
    if run:
        next_command("flowrl eval", run, "--sampler", name)
    else:
        next_command("flowrl train gridworld.yaml")


def _options(description: Description) -> str:
    if isinstance(description.options, str):
        return description.options
    return ", ".join(
        option.name if option.default is None else f"{option.name}={option.default}"
        for option in description.options
    )
