"""The engines that `--on` names: SLURM and Ray."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.experiments.suite.cluster import ClusterExecutor
from flowrl.experiments.suite.executor import Executor
from flowrl.experiments.suite.local import LocalExecutor
from flowrl.experiments.suite.slurm import LOCAL, SlurmEngine, SlurmOptions

ENGINES = ("slurm", "ray")
NUMBERS: dict[str, type] = {"timeout_min": int, "mem_gb": float}
LEAST_TIMEOUT_MIN = 5  # submitit asks for a signal 90 s before the limit, and SLURM may send it 60 s earlier


def open_executor(on: str | None, out: Path, parallel: int) -> Executor:
    """Return what makes the trials of a suite or a sweep in `out`, `parallel` at a time: `on` names an engine.

    Raises UsageError for an engine or an option that does not exist, MissingDependency without its package.
    """
    if on is None:
        return LocalExecutor(parallel)
    name, _, options = on.partition(":")
    if name == "slurm":
        return ClusterExecutor(SlurmEngine(slurm_options(options), out), parallel)
    if name == "ray":
        from flowrl.experiments.suite.ray_tasks import RayEngine

        return ClusterExecutor(RayEngine(options), parallel)
    raise UsageError(
        f"--on {on}: expected slurm, slurm:partition=…,timeout_min=…, ray or ray:ADDRESS.{did_you_mean(name, ENGINES)}"
    )


def slurm_options(text: str) -> SlurmOptions:
    """Parse 'partition=gpu,timeout_min=600'. Raises UsageError for other text."""
    known = [field.name for field in fields(SlurmOptions)]
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name not in known:
            raise UsageError(
                f"--on slurm:{text}: {part!r} is no option with a value. Those are {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
        values[name] = _number(text, name, value) if name in NUMBERS else value
    if values.get("cluster", LOCAL) not in ("slurm", LOCAL):
        raise UsageError(
            f"--on slurm:{text}: cluster is slurm, or local: processes of this machine that submitit starts."
        )
    if values.get("timeout_min", LEAST_TIMEOUT_MIN) < LEAST_TIMEOUT_MIN:
        raise UsageError(
            f"--on slurm:{text}: timeout_min is at least {LEAST_TIMEOUT_MIN}. SLURM asks a job to save itself up to "
            "two and a half minutes before its limit, and a job that is asked while it starts is lost."
        )
    return SlurmOptions(**values)


def _number(text: str, name: str, value: str) -> float:
    try:
        number = NUMBERS[name](value)
    except ValueError:
        number = 0
    if number <= 0:
        raise UsageError(f"--on slurm:{text}: {name} is a positive {'whole ' * (NUMBERS[name] is int)}number.")
    return float(number) if NUMBERS[name] is float else int(number)
