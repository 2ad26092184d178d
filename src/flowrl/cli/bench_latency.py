"""`flowrl bench-latency`: the time of each sampler per call, and its distance to the exact flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowrl.cli.arguments import Imports, Json, Seed, code_options, import_code, several, whole_numbers
from flowrl.cli.output import next_command, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from flowrl.experiments import latency


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
            help="Samplers, as in euler,heun or euler:10,fitted-4.yaml; default: all that are general, and with "
            "--max-p99-us or --hz that of the training alone.",
        ),
    ] = "",
    steps: Annotated[
        str, typer.Option(metavar="N,…", help="Numbers of steps of the fixed-grid samplers.")
    ] = "1,2,4,8,10",
    batch: Annotated[
        str | None, typer.Option(metavar="N,…", help="Batch sizes: actions per call; default: 1,64, behind a gate 1.")
    ] = None,
    backends: Annotated[
        str, typer.Option(metavar="NAME,…", help="What computes the actions: torch, onnx and c, as flowrl.load does.")
    ] = "torch",
    max_p99_us: Annotated[
        float | None,
        typer.Option(
            "--max-p99-us", min=0, max=1e9, help="Exit with 7 when the 99th percentile of a call is above: a gate."
        ),
    ] = None,
    hz: Annotated[
        float | None,
        typer.Option(min=1e-3, max=1e9, help="The same for half the period of a controller of so many Hz."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads that PyTorch uses within an operation.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for latency.json and the figures.")] = Path("bench"),
    seed: Seed = 0,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Time every sampler, with its distance to the exact flow.

    The time is that of a complete call, from observations and noise to actions. The error is the distance to
    the exact flow's actions, relative to their spread. With untrained networks (no CKPT), use the errors only to
    compare samplers. Behind a gate (--max-p99-us, --hz) each row has up to 5000 calls in
    five seconds, 1000 at least.
    """
    gated = max_p99_us is not None or hz is not None
    batches = whole_numbers("--batch", ("1" if gated else "1,64") if batch is None else batch, 65_536)
    step_counts = whole_numbers("--steps", steps)

    import torch

    from flowrl.experiments import build, latency, latency_report, memory
    from flowrl.storage import files

    import_code(imports)
    names = [name.strip() for name in samplers.split(",") if name.strip()]
    asked = several("--backends", backends, latency_report.BACKENDS)
    only_own = gated and not names and ckpt is not None
    candidates = {} if only_own else latency.candidates(names, step_counts)
    gate = latency.Gate.of(max_p99_us, hz)
    memory.check_threads("--threads ", threads)
    torch.set_num_threads(threads)
    policies = latency.standard(seed) if ckpt is None else [latency.trained(ckpt)]
    files.check(out / latency.DOCUMENT)  # before the measurement, which would be lost
    for text in latency.mismatches(names, policies[0]):
        say(f"note: {text}")
    document = latency.run(policies, candidates, batches, seed, backends=asked, gate=gate, report=say)
    written = latency.save(document, out)
    if as_json:
        print_json(document)
    else:
        for network, size, rows in latency_report.tables(document):
            print(latency_report.heading(network, size))
            lines = [latency_report.line(row, network["own_sampler"]) for row in rows]
            print_table(latency_report.COLUMNS, lines, latency_report.NUMBERS, latency_report.KEYS)
            print()
        for line in (*latency_report.LEGEND, *latency_report.conditions(document)):
            print_line(line)
    say(f"wrote {', '.join(map(str, written))}")
    config = dict(policies[0].config)
    if gate is not None:
        _judge(gate, document)
        next_command("flowrl export", *([ckpt] if ckpt else ["CKPT"]), *code_options(config, sampler_only=True))
    elif ckpt is not None:
        best = latency_report.proposal(document)
        if best is not None:
            say(best.reason)
        sampler = ["--sampler", best.row["sampler"]] if best else []
        grid = ["--steps", best.row["steps"]] if best and best.row["steps"] else []
        next_command("flowrl eval", ckpt, *sampler, *grid, *code_options(config))
    elif (newest := build.newest_flow_run()) is not None:
        run, config = newest
        next_command("flowrl bench-latency", run, *code_options(config, sampler_only=True))
    else:
        next_command("flowrl train gridworld.yaml")


def _judge(gate: latency.Gate, document: dict[str, Any]) -> None:
    """Raise ThresholdMissed where a row is slower than `gate`, or say that none is."""
    from flowrl.contracts.errors import ThresholdMissed

    missed = gate.missed(document)
    if not missed:
        say(f"every p99 is within {gate.most_us:g} µs")
        return
    quiet = "" if document["good"] else f" The machine was busy ({document['reason']}): repeat it on a quiet one."
    raise ThresholdMissed(
        f"{gate.said}: {'; '.join(missed)}. Take fewer steps, a fitted sampler (flowrl fit-sampler) or another backend "
        f"(--backends c).{quiet}"
    )
