"""`flowrl ratio`: what the ratio of a policy measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Ckpt, Imports, Json, Seed, import_code, several, whole_numbers
from flowrl.cli.output import next_command, print_json, print_line, print_table, say
from flowrl.cli.progress import progress_bar


def ratio(
    ckpt: Ckpt,
    updates: Annotated[int, typer.Option(min=1, max=1000, help="Updates to make; the last one is examined.")] = 1,
    actions: Annotated[int, typer.Option(min=16, max=100_000, help="Actions of the update to examine.")] = 512,
    probes: Annotated[
        str, typer.Option(metavar="N,…", help="Numbers of probes whose noise is measured (flows).")
    ] = "2,4,8,16",
    weightings: Annotated[
        str, typer.Option(metavar="NAME,…", help="Weightings of the CFM loss: u, eps, data, elbo (flows).")
    ] = "u,eps,data,elbo",
    out: Annotated[Path | None, typer.Option(help="The figure to write, .png, .svg or .pdf (flows).")] = None,
    seed: Seed = 0,
    imports: Imports = None,
    json: Json = False,
) -> None:
    """Compare the ratio of one update with exact likelihoods.

    Continues the checkpoint for an update, without saving it, and computes the likelihood of its actions before and
    after: exactly, and as CFM losses see it. Shows how much of the ratio is likelihood, and how much the update moved
    the policy along the advantage. For actions of up to 8 numbers.
    """
    from flowrl.experiments import ratio_report, ratio_study
    from flowrl.reporting.plots import ratio_figure, style

    counts = whole_numbers("--probes", probes, 1000)
    chosen = several("--weightings", weightings, ratio_study.WEIGHTINGS)
    if out is not None:
        style.check(out)
    import_code(imports)
    with progress_bar() as bar:
        found = ratio_study.study(
            ckpt, updates=updates, actions=actions, probes=counts, weightings=chosen, seed=seed, progress=bar.update
        )
    if json:
        print_json(found.document())
    else:
        say(f"{found.checkpoint}: {found.algorithm}, {found.env_steps:,} env steps, {found.actions} actions")
        print_table(
            ratio_report.COLUMNS, ratio_report.table(found), ratio_report.COLUMNS[1:], set(ratio_report.COLUMNS[:1])
        )
        print_line("")
        if found.noise:
            lines = ratio_report.noise_table(found)
            columns = ratio_report.NOISE_COLUMNS
            print_table(columns, lines, ["probes", "noise (std)", "correlation"], set(columns[:3]))
            print_line("")
        for line in ratio_report.sentences(found):
            print_line(line)
    for note in found.notes:
        say(f"note: {note}")
    if out is not None:
        if found.points:
            of_u = [(row.probes, row.law, row.noise) for row in found.noise if row.weighting == "u"]
            style.save(ratio_figure.draw(found.points, of_u), out)
            say(f"wrote {out}")
        else:
            say("no figure: it compares CFM losses of weighting u, which this study does not have")
    next_command("flowrl eval", ckpt, *found.code)
