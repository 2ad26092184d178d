"""Extreme recipes: every number of a recipe at the ends of what may be typed, and really trained.

    python benchmarks/attacks/extreme_recipes.py

Each number takes the ends of its own range, which are trained, and values far beyond, most of which are refused. A
recipe must train or be refused in a paragraph: no traceback, no signal, no hang. What takes long is stopped by SIGTERM
after a while, and by another one if its iteration takes longer, and must then end. The processes may use 4 GB of
addresses beyond what they begin with, which flowrl's estimates of memory see. Prints every fault and the number of
them, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from processes import flowrl, warm_up
from pydantic import BaseModel

from flowrl.config.schema import Config

SMALL = {"fpo": ["algorithm=fpo"], "ppo": ["algorithm=ppo"]}
BASE = ["total_steps=64", "env.id=flowrl/GridWorld-v0", "env.count=4", "rollout.steps=4", "learner.epochs=2"]
BASE += ["learner.minibatches=2", "policy.hidden=[8]", "learner.critic.hidden=[8]", "checkpoint.every_s=0"]

WHOLE = [0, 1, 3, -1, 1000, 10**6, 2**63 - 1, 10**30]
REAL = [0.0, 5e-324, 1e-30, 1.0, 1e3, 1e38, 1e300, -1.0]
LISTS = ["[0]", "[-1]", "[1]", "[1000000000]", "[65536,65536]", "[65536]", "[]"]
LISTS += [str([2] * 64)]
LIMITS = ("gt", "ge", "lt", "le")
ADDRESSES = 4 * 2**30  # bytes


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def numbers(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, list[Any]]]]:
    """(key, (kind, ends of its range)) of every number in the configuration: `int`, `float` or `list`."""
    for name, field in model.model_fields.items():
        nested = list(models(field.annotation))
        for inner in nested:
            yield from numbers(inner, f"{prefix}{name}.")
        if nested:
            continue
        text = str(field.annotation)
        kind = "list" if "tuple[" in text and "int" in text else "float" if "float" in text else "int"
        if kind == "list" or "float" in text or ("int" in text and "Literal" not in text):
            bounds = [
                (name, each) for each in field.metadata for name in ("gt", "ge", "lt", "le") if hasattr(each, name)
            ]
            ends = [getattr(each, name) for name, each in bounds]
            yield f"{prefix}{name}", (kind, [] if kind == "list" else ends)


def cases() -> Iterator[tuple[str, list[str]]]:
    """Name and overrides of every recipe."""
    values: dict[str, list[Any]] = {"int": WHOLE, "float": REAL, "list": LISTS}
    for key, (kind, ends) in dict(numbers(Config)).items():
        for value in dict.fromkeys([*ends, *values[kind]]):
            for algorithm, override in SMALL.items():
                if algorithm == "ppo" and not key.startswith("policy."):
                    continue
                yield (
                    f"{algorithm} {key}={value}",
                    [*override, f"{key}={json.dumps(value) if kind != 'list' else value}"],
                )
    grid = ["learner.probes.law=grid"]
    for value in (1, 10**9, 2**63 - 1, 2**64 - 1):
        yield f"grid {value}", [*grid, f"learner.probes.grid={value}"]
    for steps in (0, 10**4, 10**9):
        yield f"sampler.steps={steps}", [f"sampler.steps={steps}"]
    for std in (1e-300, 1e300):
        yield f"fixed std {std}", ["algorithm=ppo", "policy.std=fixed", f"policy.initial_std={std}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--every", type=int, default=1, help="try each N-th case")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--stop-s", type=float, default=8.0, help="seconds before a training gets SIGTERM")
    parser.add_argument("--limit-s", type=float, default=60.0)
    options = parser.parse_args()
    warm_up()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES, resource.RLIM_INFINITY))
    faults = trained = refused = 0
    chosen = [case for case in cases() if options.only in case[0]][options.first :: options.every]
    for name, overrides in chosen:
        with tempfile.TemporaryDirectory(prefix="extreme-") as scratch:
            command = ["train", "gridworld.yaml", "--name", "run"]
            for override in [*BASE, *overrides]:
                command += ["--set", override]
            outcome = flowrl(command, Path(scratch), options.limit_s, options.stop_s, ADDRESSES / 2**20)
        trained += outcome.code in (0, 143)
        refused += outcome.code in (2, 3)
        if outcome.fault:
            faults += 1
            print(f"{name}: {outcome.fault} after {outcome.seconds:.0f} s, {outcome.megabytes:.0f} MB: "
                  f"{outcome.output.strip().splitlines()[-2:]}", flush=True)  # fmt: skip
    print(f"{len(chosen)} recipes: {trained} trained, {refused} refused or diverged, {faults} faults")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
