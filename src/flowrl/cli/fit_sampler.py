"""`flowrl fit-sampler`: a sampler with few evaluations, fitted to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import Ckpt, Imports, Json, Seed, choice, import_code
from flowrl.cli.output import next_command, print_json, print_line, print_table
from flowrl.cli.progress import progress_bar

if TYPE_CHECKING:
    from flowrl.experiments import fewer_evaluations

TargetName = Annotated[
    str,
    typer.Option(
        "--target", metavar="trained or exact", help="The actions of the training's sampler, or the exact flow's."
    ),
]
ObservationSource = Annotated[
    str,
    typer.Option(
        "--observations", metavar="env or normal", help="Play the environment for them, or draw them from N(0, 1)."
    ),
]


def fit_sampler(
    ckpt: Ckpt,
    nfe: Annotated[int, typer.Option("--nfe", min=1, max=32, help="Velocity evaluations per action.")] = 4,
    target: TargetName = "trained",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write; default: fitted-NFE.yaml beside the checkpoint."),
    ] = None,
    observations: ObservationSource = "env",
    seed: Seed = 0,
    imports: Imports = None,
    json: Json = False,
) -> None:
    """Fit a sampler to a policy: its actions with fewer evaluations.

    Takes seconds and changes no weight. The file holds numbers only; use its name where a sampler is named. Reports
    how far the actions end from the target's, beside general samplers at the same cost.
    """
    from flowrl.experiments import fewer_evaluations

    choice("--target", target, ("trained", "exact"))
    choice("--observations", observations, ("env", "normal"))
    import_code(imports)
    with progress_bar() as bar:
        result = fewer_evaluations.fit_sampler(
            ckpt,
            nfe,
            target,  # type: ignore[arg-type]
            observations,  # type: ignore[arg-type]
            out,
            seed,
            lambda text, share: bar.update(text, share, 1.0),
        )
    if json:
        print_json(result.document())
        return
    print_endpoints(result)
    next_command("flowrl eval", ckpt, "--sampler", f"{result.own},{result.file}", *result.code)


def print_endpoints(result: fewer_evaluations.FewerResult) -> None:
    """Print the table of a result, and what it says."""
    from flowrl.experiments import fewer_evaluations

    lines = [[row.name, f"{row.nfe:g}", f"{row.endpoint_error:.2%}", f"{row.noise_spread:.1%}"] for row in result.rows]
    print_table(fewer_evaluations.COLUMNS, lines, fewer_evaluations.COLUMNS[1:], fewer_evaluations.COLUMNS[:1])
    print_line(result.sentence)
    print_line(f"wrote {result.file}")
