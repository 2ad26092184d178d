"""Samplers that were compared in pairs: what to deploy, as a sentence, a table, a document and a figure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowrl import __version__
from flowrl.evaluation.episodes import known_interval
from flowrl.evaluation.latency import Timing
from flowrl.experiments import sampler_choice
from flowrl.experiments.latency_report import BACKENDS, short
from flowrl.policies import noise_modes
from flowrl.storage.files import write_text

TOLERATED = 0.02  # of the return of the training's sampler: what a faster choice may lose
DOCUMENT, FIGURE = "sampler-sweep.json", "sampler-sweep.png"
COLUMNS = ["sampler", "steps", "NFE", "noise", "return (95 %)", "difference (95 %)", "endpoint error"]
TEXTS = ("sampler", "noise", "return (95 %)", "difference (95 %)", "Pareto")
KEYS = ("sampler", "steps", "noise")


@dataclass(frozen=True)
class Compared:
    """One choice: how it generates actions, what it gains and what it costs."""

    sampler: str | None
    steps: int | None
    nfe: float | None  # velocity evaluations per action
    noise: str
    noise_scale: float
    option: str | None  # what is typed after --sampler; None: nothing
    return_mean: float
    return_ci95: tuple[float, float]
    difference: float  # mean over the episodes of its return minus that of the training's sampler
    difference_ci95: tuple[float, float]
    success_rate: float | None
    endpoint_error: float | None  # distance to the actions of the training's sampler, relative to their spread
    latency: dict[str, Timing]  # by backend; without the backends that it cannot run in
    pareto: bool = False  # no other choice is both faster (p50 in the backend of the comparison) and better

    @property
    def title(self) -> str:
        """'euler:4 with zero noise'."""
        return f"{self.name} with {noise_modes.label(self.noise, self.noise_scale)} noise"

    @property
    def name(self) -> str:
        """'euler:4'; 'the policy' for one without a sampler."""
        return sampler_choice.text_of(self.sampler or "the policy", self.steps)

    def us(self, backend: str) -> float:
        """The median time of an action in `backend`, in µs; infinite where it cannot run in it."""
        return self.latency[backend].p50_us if backend in self.latency else math.inf


@dataclass(frozen=True)
class SamplerComparison:
    """The choices, that of the training first."""

    rows: list[Compared]
    episodes: int
    seed: int
    checkpoint: str
    digest: str
    conditions: dict[str, Any] = field(default_factory=dict)  # of the machine

    @property
    def own(self) -> Compared:
        """The sampler and the noise of the training."""
        return self.rows[0]

    @property
    def backend(self) -> str:
        """The fastest backend that the sampler of the training can run in: latencies in it are compared."""
        return min(self.own.latency, key=lambda name: self.own.latency[name].p50_us)

    @property
    def proposed(self) -> Compared:
        """The fastest choice that certainly loses no more than 2 % of the return; of equally fast ones the one that is
        certainly better than the sampler of the training, else that whose noise is the most like it."""
        least = -TOLERATED * abs(self.own.return_mean)
        good = [row for row in self.rows if row is self.own or row.difference_ci95[0] >= least]

        def rank(row: Compared) -> tuple[float, float, float]:
            gain = row.return_mean if row.difference_ci95[0] > 0 else -math.inf
            return row.us(self.backend), -gain, abs(row.noise_scale - self.own.noise_scale)

        return min(good, key=rank)

    @property
    def best(self) -> Compared | None:
        """The choice of the highest return, if it certainly has a higher one than the sampler of the training."""
        best = max(self.rows, key=lambda row: row.return_mean)
        return best if best.difference_ci95[0] > 0 else None

    @property
    def sentence(self) -> str:
        """Say what to deploy, and what that costs and gains."""
        own, chosen, backend = self.own, self.proposed, self.backend
        if chosen is own:
            text = (
                f"Keep {own.title}, as trained: no faster choice is certain to keep "
                f"{1 - TOLERATED:.0%} of its return {own.return_mean:.4g} (the interval of the paired difference "
                "decides; more episodes narrow it)."
            )
        else:
            share = f" ({chosen.difference / abs(own.return_mean):+.1%})" if own.return_mean else ""
            low, high = chosen.difference_ci95
            error = chosen.endpoint_error
            distance = "" if error is None else f" Its actions are {error:.1%} of their spread away."
            text = (
                f"Deploy {chosen.title}: {short(chosen.us(backend))} µs an action in {backend} instead of "
                f"{short(own.us(backend))}, return {chosen.return_mean:.4g}, {chosen.difference:+.3g}{share} against "
                f"{own.title}, 95 % interval of the paired difference {low:.3g} to {high:.3g}.{distance}"
            )
        best = self.best
        if best is None or best is chosen:
            return text
        return (
            f"{text} The highest return has {best.title}: {best.return_mean:.4g} ({best.difference:+.3g}) at "
            f"{short(best.us(backend))} µs."
        )

    def document(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        chosen = self.rows.index(self.proposed)
        rows = [
            asdict(row) | {each: known_interval(getattr(row, each)) for each in ("return_ci95", "difference_ci95")}
            for row in self.rows
        ]
        proposal = {"row": chosen, "sentence": self.sentence}
        return {
            "flowrl": __version__,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            "episodes": self.episodes,
            "seed": self.seed,
            "backend": self.backend,
            **self.conditions,
            "rows": rows,
            "proposal": proposal,
        }


def table(comparison: SamplerComparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells; times are p50 and p99 of one action in each backend, in µs."""
    backends = [name for name in BACKENDS if any(name in row.latency for row in comparison.rows)]
    columns = [*COLUMNS, *(f"{name} µs" for name in backends), "Pareto"]
    lines = []
    for row in comparison.rows:
        times = [
            f"{short(row.latency[name].p50_us)} / {short(row.latency[name].p99_us)}" if name in row.latency else "-"
            for name in backends
        ]
        trained = " (training)" if row.sampler is not None and row.name == comparison.own.name else ""
        own = row is comparison.own
        lines.append(
            [
                f"{row.sampler or '-'}{trained}",
                str(row.steps or "-"),
                "-" if row.nfe is None else f"{row.nfe:.4g}",
                noise_modes.label(row.noise, row.noise_scale),
                f"{row.return_mean:.4g} {_interval(row.return_ci95)}",
                "-" if own else f"{row.difference:+.3g} {_interval(row.difference_ci95)}",
                "-" if row.endpoint_error is None else f"{row.endpoint_error:.2%}",
                *times,
                "*" if row.pareto else "",
            ]
        )
    return columns, lines


def legend(comparison: SamplerComparison) -> list[str]:
    """Return what the columns of the table mean."""
    lines = ["difference: mean of the differences to the first row, episode by episode"]
    if comparison.own.endpoint_error is not None:
        lines.append("endpoint error: distance to the actions of the training's sampler, relative to their spread")
    return [*lines, "times: p50 / p99 of one action; Pareto: no other row is both faster and better"]


def _interval(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"[{low:.4g}, {high:.4g}]" if math.isfinite(low) else ""


def save(comparison: SamplerComparison, out: Path) -> list[Path]:
    """Write the document and the figure into the folder `out`; returns their paths."""
    from flowrl.reporting.plots import pareto_front, style

    file, picture = out / DOCUMENT, out / FIGURE
    write_text(file, json.dumps(comparison.document(), indent=2, allow_nan=False) + "\n")
    backend = comparison.backend
    choices = [
        pareto_front.Choice(
            f"{row.sampler or 'the policy'}, {noise_modes.label(row.noise, row.noise_scale)}",
            row.nfe or 1,
            row.us(backend),
            row.return_mean,
            row.return_ci95 if math.isfinite(row.return_ci95[0]) else None,
        )
        for row in comparison.rows
        if math.isfinite(row.us(backend))
    ]
    warning = "" if comparison.conditions["good"] else "times of a busy machine"
    drawing = pareto_front.draw(choices, "return", title=f"one action at a time, in {backend}", warning=warning)
    style.save(drawing, picture)
    return [file, picture]
