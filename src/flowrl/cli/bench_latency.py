"""`flowrl bench-latency`: the time of each sampler per call, and its distance to the exact flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Imports, Json, Seed, import_code, whole_numbers
from flowrl.cli.output import next_command, print_json, print_line, print_table, say


def bench_latency(
    ckpt: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint or run folder; default: untrained networks, sized for HalfCheetah (S) and Humanoid (M).",
        ),
    ] = None,
    samplers: Annotated[
        str,
        typer.Option(
            "--sampler",
            "--samplers",
            metavar="NAME[:STEPS],…",
            help="Samplers, as in euler,heun or euler:10,fitted-4.yaml; default: all that are general.",
        ),
    ] = "",
    steps: Annotated[
        str, typer.Option(metavar="N,…", help="Numbers of steps of the fixed-grid samplers.")
    ] = "1,2,4,8,10",
    batch: Annotated[str, typer.Option(metavar="N,…", help="Batch sizes: actions per call.")] = "1,64",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads that PyTorch uses within an operation.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for latency.json and the figures.")] = Path("bench"),
    seed: Seed = 0,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Time every sampler, with its distance to the exact flow.

    The time is that of a complete call, from observations and noise to actions. The error is the distance to
    the exact flow's actions, relative to their spread. With untrained networks (no CKPT), use the errors only to
    compare samplers.
    """
    step_counts, batches = whole_numbers("--steps", steps), whole_numbers("--batch", batch, 65_536)

    import torch

    from flowrl.experiments import build, latency, memory
    from flowrl.storage import files

    import_code(imports)
    names = [name.strip() for name in samplers.split(",") if name.strip()]
    candidates = latency.candidates(names, step_counts)
    memory.check_threads("--threads ", threads)
    torch.set_num_threads(threads)
    policies = latency.standard(seed) if ckpt is None else [latency.trained(ckpt)]
    files.check(out / latency.DOCUMENT)  # before the measurement, which would be lost
    for text in latency.mismatches(names, policies[0]):
        say(f"note: {text}")
    document = latency.run(policies, candidates, batches, seed, report=say)
    written = latency.save(document, out)
    if as_json:
        print_json(document)
    else:
        for network, size, rows in latency.tables(document):
            print(latency.heading(network, size))
            lines = [latency.line(row, network["own_sampler"]) for row in rows]
            print_table(latency.COLUMNS, lines, latency.NUMBERS, latency.KEYS)
            print()
        for line in (*latency.LEGEND, *latency.conditions(document)):
            print_line(line)
    say(f"wrote {', '.join(map(str, written))}")
    if ckpt is not None:
        best = latency.proposal(document)
        if best is not None:
            say(best.reason)
        sampler = ["--sampler", best.row["sampler"]] if best else []
        grid = ["--steps", best.row["steps"]] if best and best.row["steps"] else []
        next_command("flowrl eval", ckpt, *sampler, *grid)
    elif (run := build.newest_flow_run()) is not None:
        next_command("flowrl bench-latency", run)
    else:
        next_command("flowrl train gridworld.yaml")
