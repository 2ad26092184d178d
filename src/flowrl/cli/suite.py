"""`flowrl suite`: every recipe with every algorithm and several seeds, kept going through interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import algorithm_names, seed_numbers, step_count
from flowrl.cli.output import next_command, print_json, print_table, say

if TYPE_CHECKING:
    from flowrl.experiments.suite.result import TrialResult
    from flowrl.experiments.suite.scheduler import SuiteOutcome

COLUMNS = ["recipe", "algorithm", "seed", "random", "zero", "env steps", "seconds", "steps/s", "state"]


def suite(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPE", help="Recipes: YAML files, or names of shipped ones.")
    ],
    algorithms: Annotated[
        str,
        typer.Option(help="Algorithms to compare; a recipe's section of that name holds its own settings."),
    ] = "fpo,fpo++,ppo",
    seeds: Annotated[str, typer.Option(help="How many (3 are 0, 1 and 2), or from-to, as in 3-5.")] = "3",
    steps: Annotated[
        str | None,
        typer.Option(help="Environment steps of each run, as in 2M or 500k; default: the recipe's."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each with one thread.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one key for all algorithms; repeatable."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each evaluation.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder of the results: OUT/recipe/algorithm/seed0/….")] = Path(
        "runs/suite"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> int:
    """Train and evaluate recipes x algorithms x seeds.

    Every run has its own process. The same command goes on after an interruption: what is finished is kept, what
    was saved continues. Each run is evaluated under random and zero noise (Gaussian policy: sampled and mean
    actions). What is wrong in a recipe is told before the first run starts. A run that fails is recorded and the
    others go on; the exit code is then 3 if any diverged.
    """
    from flowrl.experiments.suite import plan, scheduler

    cells = plan.SuitePlan(
        recipes=tuple(recipes),
        algorithms=algorithm_names(algorithms),
        seeds=seed_numbers(seeds),
        out=out,
        steps=None if steps is None else step_count(steps),
        overrides=tuple(overrides or ()),
        episodes=episodes,
    )
    outcome = scheduler.run(plan.plan(cells), jobs, say)
    if json:
        print_json(_document(out, outcome))
    else:
        print_table(COLUMNS, [_row(result) for result in outcome.results], COLUMNS[2:-1])
    if outcome.signal:
        progress = f"{outcome.count('finished', 'kept')} of {len(outcome.results)} cells are done"
        say(f"stopped by {outcome.signal.name}: {progress}; the same command goes on.")
    if outcome.count("unfinished", "failed"):
        again = [*recipes, "--algorithms", algorithms, "--seeds", seeds]
        again += ["--steps", steps] if steps else []
        again += [part for override in overrides or () for part in ("--set", override)]
        again += ["--jobs", str(jobs), "--episodes", str(episodes), "--out", str(out)]
        next_command("flowrl suite", *again)
    elif outcome.count("finished", "kept"):
        next_command("flowrl compare", out)
    else:  # all have diverged
        next_command("flowrl plot", outcome.results[0].cell.folder(out))
    return outcome.exit_code


def _document(out: Path, outcome: SuiteOutcome) -> dict[str, object]:
    states = ("finished", "kept", "diverged", "failed", "unfinished")
    return {
        "out": str(out),
        **{state: outcome.count(state) for state in states},
        "stopped_by": outcome.signal.name if outcome.signal else None,
        "cells": [result.as_dict() for result in outcome.results],
    }


def _row(result: TrialResult) -> list[str]:
    fields = result.as_dict()
    state = f"{result.state}, exit {result.failure.exit_code}" if result.failure else result.state
    return [
        result.cell.recipe,
        result.cell.algorithm,
        str(result.cell.seed),
        *(_shown(result.returns.get(mode), "{:.4g}") for mode in ("random", "zero")),
        _shown(fields["env_steps"], "{:,}"),
        _shown(fields["seconds"], "{:.1f}"),
        _shown(fields["env_steps_per_s"], "{:,.0f}"),
        state,
    ]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
