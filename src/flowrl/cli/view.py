"""`flowrl view`: a policy live in a browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from flowrl.cli.arguments import LARGEST_SEED, Ckpt, GridSteps, Imports, OtherEnv, SetOptions, code_options, import_code
from flowrl.cli.output import next_command, print_line
from flowrl.contracts.errors import UsageError


def view(
    ckpt: Ckpt,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME[:STEPS]", help="The sampler to begin with; default: the sampler of the training."),
    ] = None,
    steps: GridSteps = None,
    overrides: SetOptions = None,
    noise: Annotated[
        str | None,
        typer.Option(help="random, zero or fixed noise to begin with (Gaussian policy: sampled or mean action)."),
    ] = None,
    noise_scale: Annotated[
        float | None, typer.Option(min=0, max=1, help="Factor of the noise to begin with: 0 for none, 1 as trained.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the starts and of the noise.")] = 0,
    env: OtherEnv = None,
    imports: Imports = None,
    host: Annotated[
        str,
        typer.Option(
            help="The address to serve at. The default is reached from this computer only; at another one, all who "
            "reach it see and control the simulation, for nothing asks for a password."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to serve at; 0: the first free one from 8080 on.")
    ] = 0,
) -> None:
    """Show a policy live in a browser, in MuJoCo Studio.

    Sampler, steps, noise, commands and goals can be changed while it runs, and the robot pushed with the mouse.
    Ctrl-C ends it.
    """
    from flowrl.experiments.evaluate import EvalRequest
    from flowrl.experiments.view import live

    import_code(imports)
    request = EvalRequest(sampler, steps, tuple(overrides or ()), seed=seed, noise=noise, env=env)
    if noise_scale is not None:
        request = replace(request, noise_scale=str(noise_scale))
    request, *others = request.each(None)
    if others:
        raise UsageError("one sampler and one kind of noise at a time: the panel in the browser offers the others.")
    seen = live.view(ckpt, request, host, port, lambda url: print_line(f"{url}   (Ctrl-C ends it)"))
    if seen.mean is not None:
        print_line(f"{seen.episodes} episodes, return {seen.mean:.4g} on average")
    next_command("flowrl eval", ckpt, *code_options(seen.config))
