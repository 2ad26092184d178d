"""The study of a ratio as tables and sentences."""

from __future__ import annotations

from flowrl.experiments.ratio_study import RatioStudy

COLUMNS = ["log-ratio", "std (nats)", "correlation", "slope", "with the advantage", "along the advantage"]
NOISE_COLUMNS = ["weighting", "probes", "law", "noise (std)", "correlation"]


def table(found: RatioStudy) -> list[list[str]]:
    """Return the cells of the rows under `COLUMNS`."""
    return [
        [row.name, _cell(row.std), *map(_cell, (row.correlation, row.slope, row.with_advantage, row.along_advantage))]
        for row in found.rows
    ]


def noise_table(found: RatioStudy) -> list[list[str]]:
    """Return the cells of the rows under `NOISE_COLUMNS`."""
    return [[row.weighting, str(row.probes), row.law, _cell(row.noise), _cell(row.correlation)] for row in found.noise]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def sentences(found: RatioStudy) -> list[str]:
    """Say what the rows mean."""
    exact, *others = found.rows
    lines = [
        "correlation and slope: with, and on, the exact log-ratio of the policy that acts",
        "along the advantage: std times the correlation with it, how far the update moved this log-ratio that way",
        f"the exact log-ratio has a standard deviation of {exact.std:.3g} nats (KL about {found.kl:.2g}) and moved "
        f"{_cell(exact.along_advantage)} along the advantage",
    ]
    own = next((row for row in others if row.name == "CFM, weighting u"), None)
    if own is not None:
        lines.append(
            f"the CFM log-ratio follows the advantage with {_cell(own.with_advantage)}, the likelihood with "
            f"{_cell(exact.with_advantage)}"
        )
    if found.gap is not None:
        lines.append(
            f"the gap between ELBO and likelihood changed by {found.gap:.2g} times as much as the likelihood itself"
        )
    if found.dropped:
        lines.append(f"{found.dropped} actions were left out: the sampler's map could not be inverted there")
    return lines
