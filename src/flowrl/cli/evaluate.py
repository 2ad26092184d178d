"""`flowrl eval`: how good is a policy, under any sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.output import next_command, print_json, print_table, say


def evaluate(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run folder.")],
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:STEPS],…",
            help="Sampler, or several, as in `flowrl samplers`; default: the training's.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler's grid.")] = None,
    sweep_steps: Annotated[
        str | None, typer.Option(metavar="1,2,4,8", help="Evaluate once per number of steps.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Set one key, such as sampler.rtol=1e-3; repeatable."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to play.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments and noise.")] = 0,
    noise: Annotated[
        str | None,
        typer.Option(help="random, zero or fixed noise (Gaussian policy: sampled or mean action)."),
    ] = None,
    env: Annotated[str | None, typer.Option(help="Another environment of the same sizes.")] = None,
    min_return: Annotated[
        float | None, typer.Option(help="Exit with 7 when the mean return is below this.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Play episodes and report return, success and length with intervals, NFE and time per action."""
    from flowrl import examination
    from flowrl.errors import ThresholdMissed

    asked = examination.Question(sampler, steps, tuple(overrides or ()), episodes, seed, noise, env)
    subject = examination.open_checkpoint(ckpt)
    sweep = examination.step_numbers(sweep_steps) if sweep_steps is not None else None
    questions = list(asked.each(sweep))
    rows = [examination.examine(subject, question) for question in questions]
    if json:
        print_json(rows if sweep or len(rows) > 1 else rows[0])
    else:
        say(f"{subject.path}: {subject.title}, {episodes} episodes, seed {seed}")
        print_table(examination.COLUMNS, [examination.line(row) for row in rows])
        next_command(
            f"flowrl eval {ckpt} --sampler heun --steps 5"
            if sampler is None
            else f"flowrl bench-latency {ckpt}"
        )
    missed = [row for row in rows if min_return is not None and row["return_mean"] < min_return]
    if missed:
        raise ThresholdMissed(
            f"the mean return {missed[0]['return_mean']:.4g} is below --min-return {min_return:g}"
        )
