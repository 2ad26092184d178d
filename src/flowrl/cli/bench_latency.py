"""`flowrl bench-latency`: the time of each sampler per call, and its distance to the exact flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flowrl.cli.arguments import whole_numbers
from flowrl.cli.output import next_command, print_json, print_table, say


def bench_latency(
    ckpt: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint or run folder. Default: untrained networks, S as for HalfCheetah, M as for Humanoid.",
        ),
    ] = None,
    samplers: Annotated[
        str, typer.Option(metavar="NAME,…", help="Samplers, as in euler,heun; default: all installed.")
    ] = "",
    steps: Annotated[
        str, typer.Option(metavar="N,…", help="Steps of the fixed-grid samplers.")
    ] = "1,2,4,8,10",
    batch: Annotated[str, typer.Option(metavar="N,…", help="Actions generated per call.")] = "1,64",
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch inside one operation.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for latency.json and the figures.")] = Path("bench"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, observations and noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Time every sampler, with its distance to the exact flow.

    The time is that of one whole call: observations bound to the network, noise carried to actions. The
    error is the distance to the exact flow's actions, relative to their spread. For untrained networks (no
    CKPT) the errors compare samplers, nothing more.
    """
    step_counts, batches = whole_numbers("--steps", steps), whole_numbers("--batch", batch)

    import torch

    from flowrl.experiments import latency
    from flowrl.storage import files

    names = [name.strip() for name in samplers.split(",") if name.strip()]
    candidates = latency.candidates(names, step_counts)
    torch.set_num_threads(threads)
    policies = latency.standard(seed) if ckpt is None else [latency.trained(ckpt)]
    files.check(out / latency.DOCUMENT)  # before the measurement, which would be lost
    document = latency.run(policies, candidates, batches, seed, report=say)
    written = latency.save(document, out)
    if as_json:
        print_json(document)
    else:
        _print(document)
    say(f"wrote {', '.join(map(str, written))}")
    _suggest(ckpt, document)


def _print(document: dict[str, Any]) -> None:
    from flowrl.experiments import latency

    for network, batch, rows in latency.tables(document):
        print(latency.heading(network, batch))
        lines = [latency.line(row, network["own_sampler"]) for row in rows]
        print_table(latency.COLUMNS, lines, latency.NUMBERS)
        print()
    for line in [*latency.LEGEND, *latency.conditions(document)]:
        print(line)


def _suggest(ckpt: Path | None, document: dict[str, Any]) -> None:
    """Print the command that evaluates the checkpoint under the fastest accurate sampler, or that times one."""
    from flowrl.experiments import latency
    from flowrl.storage import checkpoint

    if ckpt is not None:
        best = latency.fastest(document)
        sampler = ["--sampler", best["sampler"]] if best else []
        steps = ["--steps", best["steps"]] if best and best["steps"] else []
        next_command("flowrl eval", ckpt, *sampler, *steps)
    elif (run := checkpoint.newest_flow()) is not None:
        next_command("flowrl bench-latency", run)
    else:
        next_command("flowrl train gridworld.yaml")
