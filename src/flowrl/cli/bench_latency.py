"""`flowrl bench-latency`: what each sampler costs per action, and how near to the exact flow it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowrl.cli.output import next_command, print_json, say
from flowrl.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from flowrl.contracts import Sampler, VelocityField
    from flowrl.latency import Row

# (observation, action, hidden) of networks as used in practice. S: the FPO paper's actor, for HalfCheetah;
# M: Humanoid-v5.
STANDARD_SIZES = {"S": (17, 6, (32, 32, 32, 32)), "M": (376, 17, (256, 256, 256))}

# Random weights with a small output are nearly straight flows, on which one Euler step would look perfect.
# This makes Euler 10 as wrong as on trained policies: about a tenth of the actions' spread.
STANDARD_OUTPUT_SCALE = 24.0

REFERENCE = ("dopri5", {"rtol": 1e-7, "atol": 1e-7, "max_nfe": 100_000})
SECONDS_PER_ROW = 0.15


@dataclass(frozen=True)
class Subject:
    """A velocity field to be timed, and the sampler it was trained with, if it was."""

    name: str
    field: VelocityField
    observation_size: int
    action_size: int
    own_sampler: tuple[str, int | None] | None = None  # name and steps
    own: Sampler | None = None


def bench_latency(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CKPT]", help="A checkpoint or run folder. Default: standard sizes S and M."),
    ] = None,
    samplers: Annotated[str, typer.Option(help="Names, as in euler,heun. Default: all installed.")] = "",
    steps: Annotated[str, typer.Option(help="Steps of the fixed-grid samplers.")] = "1,2,4,8,10",
    batch: Annotated[str, typer.Option(help="Actions generated per call.")] = "1,64",
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch inside one operation.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for latency.json and the figures.")] = Path("bench"),
    seed: Annotated[int, typer.Option(min=0, help="Of weights, observations and noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Time every sampler per action, with its distance to the exact flow.

    The time is that of one whole call: observations bound to the network, noise carried to actions. The
    error is the distance to the exact flow's actions, relative to their spread. A star marks the Pareto
    front: no other row of that batch size is both faster and nearer. For random weights (no CKPT) the errors
    compare samplers, nothing more.
    """
    batches = _whole_numbers("--batch", batch)
    names = [name.strip() for name in samplers.split(",") if name.strip()]
    candidates = _candidates(names, _whole_numbers("--steps", steps))
    out.mkdir(parents=True, exist_ok=True)

    import torch

    torch.set_num_threads(threads)
    subjects = _standard(seed) if checkpoint is None else [_trained(checkpoint)]
    document = _measure(subjects, candidates, batches, seed)
    file = out / "latency.json"
    file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    files = [file, *_draw(document, out)]
    if as_json:
        print_json(document)
    else:
        _print_tables(document)
    say(f"wrote {', '.join(map(str, files))}")
    next_command(_suggestion(checkpoint, document))


def _whole_numbers(option: str, text: str) -> list[int]:
    """'1,2,4' as numbers, in the order given, each once."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(
            f"{option} takes whole numbers from 1 with commas between, as in 1,4,16; not {text!r}."
        )
    return list(dict.fromkeys(numbers))


def _candidates(names: Sequence[str], step_counts: Sequence[int]) -> dict[tuple[str, int | None], Sampler]:
    """The samplers to time: those that take steps with each number of steps, the others once."""
    from flowrl import registry

    candidates: dict[tuple[str, int | None], Sampler] = {}
    for name in names or registry.names():
        try:
            candidates |= {(name, count): registry.make(name, {"steps": count}) for count in step_counts}
        except UsageError:  # no option `steps`, or no such sampler, which making it without says again
            candidates[name, None] = registry.make(name)
    return candidates


def _standard(seed: int) -> list[Subject]:
    """The standard sizes, with random weights."""
    import torch

    from flowrl.flow.network import FlowNetwork, NetworkSettings

    subjects = []
    for name, (observation_size, action_size, hidden) in STANDARD_SIZES.items():
        torch.manual_seed(seed)
        settings = NetworkSettings(hidden=hidden, activation="silu", output_scale=STANDARD_OUTPUT_SCALE)
        field = FlowNetwork(observation_size, action_size, settings)
        subjects.append(Subject(name, field, observation_size, action_size))
    return subjects


def _trained(checkpoint: str) -> Subject:
    """The policy in a checkpoint."""
    from flowrl.assembly import load_policy, refuse_file_sampler
    from flowrl.examination import open_checkpoint
    from flowrl.policy import FlowPolicy

    subject = open_checkpoint(Path(checkpoint))
    config = subject.config
    refuse_file_sampler(config, subject.path, f"flowrl eval {checkpoint} --sampler {config.sampler.name}")
    loaded = load_policy(subject.content, config)
    if not isinstance(loaded.policy, FlowPolicy):
        raise UsageError(
            f"{subject.path} holds a Gaussian policy: it has no flow to time. Name a checkpoint of fpo or fpo++."
        )
    own = loaded.policy.sampler
    own_sampler = (config.sampler.name, getattr(own, "steps", None))
    return Subject(
        checkpoint, loaded.policy.field, loaded.observation_size, loaded.action_size, own_sampler, own
    )


def _measure(
    subjects: Sequence[Subject],
    candidates: dict[tuple[str, int | None], Sampler],
    batches: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """Time `candidates` on every subject; the whole result, as latency.json holds it."""
    from flowrl import __version__, registry
    from flowrl.latency import bench
    from flowrl.machine import Watch, machine

    reference = registry.make(*REFERENCE)
    watch = Watch()
    networks, shares = [], []
    for subject in subjects:
        rows = bench(
            subject.field,
            subject.observation_size,
            subject.action_size,
            candidates | ({subject.own_sampler: subject.own} if subject.own_sampler and subject.own else {}),
            batches,
            seed,
            reference=reference,
            min_seconds=SECONDS_PER_ROW,
            report=lambda line, name=subject.name: say(f"{name}: {line}"),  # type: ignore[misc]
        )
        shares += [row.cpu_share for row in rows]
        networks.append(
            {
                "network": subject.name,
                "observation_size": subject.observation_size,
                "action_size": subject.action_size,
                "own_sampler": subject.own_sampler,
                "rows": [_as_document(row) for row in rows],
            }
        )
    verdict = watch.verdict(shares)
    return {
        "flowrl": __version__,
        **asdict(verdict),
        "machine": asdict(machine()),
        "seed": seed,
        "networks": networks,
    }


def _as_document(row: Row) -> dict[str, Any]:
    error = row.endpoint_error if math.isfinite(row.endpoint_error) else None
    return asdict(row) | {"endpoint_error": error}


def _draw(document: dict[str, Any], out: Path) -> list[Path]:
    """One figure per network and batch size: endpoint error over NFE and over time per action."""
    from flowrl.reporting import figure, front

    files = []
    for network in document["networks"]:
        by_batch: dict[int, list[front.Choice]] = {}
        for row in network["rows"]:
            if row["endpoint_error"] is not None:
                per_action = row["p50_us"] / row["batch"]
                choice = front.Choice(row["sampler"], row["nfe"], per_action, row["endpoint_error"])
                by_batch.setdefault(row["batch"], []).append(choice)
        for batch, choices in by_batch.items():
            drawing = front.draw(choices, "endpoint error", "lower")
            left, right = drawing.axes
            left.set_title(f"{network['network']}, {batch} at a time", loc="left")
            right.set_title("" if document["good"] else "not good figures: busy machine", loc="right")
            files.append(out / f"latency-{Path(network['network']).stem}-batch{batch}.png")
            figure.save(drawing, files[-1])
    return files


def _print_tables(document: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to wrap at
    for network in document["networks"]:
        console.print(_table(network))
    console.print(
        "p50, p90, p99: microseconds per call; error: relative to the actions' spread; *: Pareto front"
    )
    machine = document["machine"]
    loads = " to ".join(
        f"{document[key]:.1f}" for key in ("load_before", "load_after") if document[key] is not None
    )
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s), "
        f"torch {machine['torch']}, load {loads or 'unknown'}"
    )
    if document["good"]:
        console.print("good figures: the machine was quiet")
    else:
        console.print(f"not good figures: {document['reason']}; repeat on a quiet machine", style="bold red")


def _table(network: dict[str, Any]) -> Table:
    from rich.table import Table

    sizes = f"observation {network['observation_size']}, action {network['action_size']}"
    table = Table(title=f"{network['network']}: {sizes}", title_justify="left")
    for heading in ("batch", "sampler", "steps", "NFE", "p50", "p90", "p99", "error", ""):
        table.add_column(heading, justify="left" if heading == "sampler" else "right")
    batch = None
    for row in network["rows"]:
        if batch not in (None, row["batch"]):
            table.add_section()
        own = network["own_sampler"] == (row["sampler"], row["steps"])
        table.add_row(
            "" if row["batch"] == batch else str(row["batch"]),
            row["sampler"] + (" (training)" if own else ""),
            str(row["steps"] or "adaptive"),
            f"{row['nfe']:.4g}",
            *(f"{row[key]:.0f}" for key in ("p50_us", "p90_us", "p99_us")),
            "-" if row["endpoint_error"] is None else f"{row['endpoint_error']:.2g}",
            "*" if row["pareto"] else "",
        )
        batch = row["batch"]
    return table


def _suggestion(checkpoint: str | None, document: dict[str, Any]) -> str:
    """The fastest sampler that ends within 5 % of the exact actions, for evaluating the checkpoint."""
    if checkpoint is None:
        return "flowrl bench-latency RUN, for a policy of your own"
    rows = [row for row in document["networks"][0]["rows"] if (row["endpoint_error"] or math.inf) < 0.05]
    if not rows:
        return f"flowrl eval {checkpoint}"
    best = min(rows, key=lambda row: row["p50_us"] / row["batch"])
    steps = f" --steps {best['steps']}" if best["steps"] else ""
    return f"flowrl eval {checkpoint} --sampler {best['sampler']}{steps}"
