"""The document of a measurement of samplers as tables, and the sampler that is proposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowrl.evaluation.latency import Key
from flowrl.experiments import sampler_choice

BACKENDS = ("torch", "onnx", "c")
"""What computes actions, by name, in the order of tables."""
P99 = "p99_us"
COLUMNS = [
    "sampler", "steps", "backend", "NFE", "p50 µs", "p90 µs", "p99 µs", "max µs", "Hz", "calls", "error", "Pareto",
]  # fmt: skip
NUMBERS = ["steps", *COLUMNS[3:-1]]
KEYS = COLUMNS[:3]  # identify a row
TOLERABLE_ERROR = 0.1  # of the actions' spread: far less than the noise with which a policy explores
LEGEND = [
    "µs per call; a p99 of fewer than 100 calls is nearly the slowest of them",
    "Hz: calls per second with half of each period left for the rest of the controller, by p99",
    "error: distance to the exact flow's actions, relative to their spread; up to 0.1, or that of the sampler of the",
    "  training, is tolerable; near 1 or above, the steps are too long for the sampler, whatever its order",
    "Pareto: no other row of the table is both faster and nearer",
]


def tables(document: dict[str, Any]) -> list[tuple[dict[str, Any], int, list[dict[str, Any]]]]:
    """Return (network, batch size, rows) for each table."""
    return [
        (network, batch, [row for row in network["rows"] if row["batch"] == batch])
        for network in document["networks"]
        for batch in dict.fromkeys(row["batch"] for row in network["rows"])
    ]


def heading(network: dict[str, Any], batch: int) -> str:
    """Return the heading of a table."""
    sizes = f"observation {network['observation_size']}, action {network['action_size']}"
    return f"{network['network']} ({sizes}), {batch} action{'s' * (batch > 1)} per call"


def line(row: dict[str, Any], own: Key | None) -> list[str]:
    """Return a row of the table under `COLUMNS`; `own` is the sampler that the policy was trained with."""
    return [
        row["sampler"] + (" (training)" if own == (row["sampler"], row["steps"]) else ""),
        str(row["steps"] or "-"),
        row["backend"],
        f"{row['nfe']:.4g}",
        *(short(row[key]) for key in ("p50_us", "p90_us", P99, "max_us")),
        f"{row['hz']:,.0f}",
        str(row["calls"]),
        "-" if row["endpoint_error"] is None else f"{row['endpoint_error']:.2g}",
        "*" if row["pareto"] else "",
    ]


def short(microseconds: float) -> str:
    """Format a time: 3.14, 31.4, 314, 3,142."""
    return f"{microseconds:.3g}" if microseconds < 100 else f"{microseconds:,.0f}"


def conditions(document: dict[str, Any]) -> list[str]:
    """Return the lines on the machine, and on whether its figures are good."""
    machine = document["machine"]
    loads = [f"{document[key]:.1f}" for key in ("load_before", "load_after") if document[key] is not None]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    return [
        f"{machine['processor']}, {machine['cores']} cores, {threads}, "
        f"torch {machine['torch']}, load {' to '.join(loads) or 'unknown'}",
        "good figures: the machine was quiet"
        if document["good"]
        else f"not good figures: {document['reason']}; repeat on a quiet machine",
    ]


@dataclass(frozen=True)
class Proposal:
    """The row that is proposed for a policy, and why."""

    row: dict[str, Any]
    reason: str


def proposal(document: dict[str, Any]) -> Proposal | None:
    """Propose the fastest row of the first network, at its smallest batch size, whose error is tolerable.

    Tolerable is `TOLERABLE_ERROR`, or the error of the sampler of the training where that is larger: the policy was
    trained with these actions. Where only the slowest row is as near, the nearest of the others is proposed. None
    without a row whose error is known.
    """
    network = document["networks"][0]
    batch = min((row["batch"] for row in network["rows"]), default=0)
    rows = [row for row in network["rows"] if row["batch"] == batch and row["endpoint_error"] is not None]
    if not rows:
        return None
    own = network["own_sampler"] and tuple(network["own_sampler"])
    errors = [row["endpoint_error"] for row in rows if (row["sampler"], row["steps"]) == own]
    bounds = [(TOLERABLE_ERROR, "a tenth of the actions' spread")]
    bounds += [(error, "that of the sampler of the training") for error in errors]
    tolerable, of = max(bounds)
    slowest = max(rows, key=lambda row: row["p50_us"])
    others = [row for row in rows if row is not slowest] or rows
    near = [row for row in others if row["endpoint_error"] <= tolerable]
    bound = f"at most {tolerable:.2g}, {of}"
    if near:
        return _proposal(min(near, key=lambda row: row["p50_us"]), f"the fastest whose error is {bound}")
    nearest = min(others, key=lambda row: row["endpoint_error"])
    return _proposal(nearest, f"the nearest of all but the slowest; the error of none is {bound}, so compare returns")


def _proposal(row: dict[str, Any], reason: str) -> Proposal:
    backend = row.get("backend", "torch")
    facts = f"{short(row['p50_us'])} µs, error {row['endpoint_error']:.2g}"
    name = titled(row) if backend == "torch" else f"{titled(row)} in {backend}"
    return Proposal(row, f"proposed: {name} ({facts}), {reason}")


def titled(row: dict[str, Any]) -> str:
    """Return 'euler:10', or the name alone where there are no steps."""
    return sampler_choice.text_of(row["sampler"], row["steps"])
