"""`flowrl distil`: a checkpoint whose network does in one or two steps what the trained one does in many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Ckpt, Imports, Json, Seed, choice, import_code
from flowrl.cli.fit_sampler import ObservationSource, TargetName, print_endpoints
from flowrl.cli.output import next_command, print_json
from flowrl.cli.progress import progress_bar


def distil(
    ckpt: Ckpt,
    nfe: Annotated[int, typer.Option("--nfe", min=1, max=8, help="Euler steps per action.")] = 1,
    target: TargetName = "trained",
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="How long to train the copy.")] = 20.0,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, max=10**9, help="Train for so many iterations instead, with the same result every time."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The checkpoint to write; default: distilled-NFE.pt beside the first."),
    ] = None,
    observations: ObservationSource = "env",
    seed: Seed = 0,
    imports: Imports = None,
    json: Json = False,
) -> None:
    """Distil a policy: a copy of its network that needs one or two steps.

    The result is a checkpoint with Euler's method as its sampler, for every command but train --resume. Reports how
    far the actions end from the target's, beside general samplers at the same cost.
    """
    from flowrl.deployment.distilling import DistilEffort
    from flowrl.experiments import fewer_evaluations

    choice("--target", target, ("trained", "exact"))
    choice("--observations", observations, ("env", "normal"))
    import_code(imports)
    with progress_bar() as bar:
        result = fewer_evaluations.distil(
            ckpt,
            nfe,
            target,  # type: ignore[arg-type]
            observations,  # type: ignore[arg-type]
            DistilEffort(seconds, iterations),
            out,
            seed,
            lambda text, share: bar.update(text, share, 1.0),
        )
    if json:
        print_json(result.document())
        return
    print_endpoints(result)
    next_command("flowrl eval", result.file, *result.code)
