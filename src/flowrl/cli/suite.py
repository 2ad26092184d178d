"""`flowrl suite`: train and evaluate every recipe with every algorithm and several seeds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import ALL_KEYS, LARGEST_SEED, MOST_EPISODES, Imports, Json, On, choice, repeated
from flowrl.cli.output import cell, next_command, print_json, print_table, say
from flowrl.cli.progress import progress_bar
from flowrl.contracts.errors import UsageError

if TYPE_CHECKING:
    from flowrl.experiments.suite.result import TrialResult
    from flowrl.experiments.suite.scheduler import SuiteProgress

COLUMNS = ["recipe", "algorithm", "cell", "seed", "random", "zero", "env steps", "seconds", "steps/s", "state"]
STATES = ("finished", "kept", "diverged", "failed", "unfinished")
MOST_SEEDS = 10_000
MOST_STEPS = 10**15  # as `total_steps` of a recipe
UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}


def suite(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE", help="Recipes: YAML files, names of shipped ones, or folders of them, such as paper."
        ),
    ],
    algorithms: Annotated[
        str, typer.Option(help="Algorithms to compare; a recipe may hold settings for each, in a section of its name.")
    ] = "fpo,fpo++,ppo",
    seeds: Annotated[str, typer.Option(help="A count (3 means 0, 1, 2) or a range (3-5).")] = "3",
    steps: Annotated[
        str | None, typer.Option(help="Environment steps of each trial, as in 2M or 500k; default: the recipe's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Trials at a time, each with one thread.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=f"Set one key for all algorithms. {ALL_KEYS}")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="Train with every one of these values, and with every combination of several such keys; repeatable.",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=MOST_EPISODES, help="Episodes of each evaluation.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder of the results: OUT/recipe/algorithm/seed0/….")] = Path(
        "runs/suite"
    ),
    on: On = None,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Train and evaluate recipes x algorithms x seeds, and with --grid x values of keys.

    A trial is one recipe, algorithm and seed. Each has its own process and is evaluated under random and zero
    noise (Gaussian policy: sampled and mean actions). The same command continues after an interruption: finished
    trials are kept, saved ones continue. Errors in a recipe are reported before the first trial starts. A trial
    that fails is recorded and the others go on; the exit code is then 3 if any diverged, else that of the first
    failure.
    """
    from flowrl.experiments.suite import engines, plan, scheduler

    chosen = plan.SuiteOptions(
        recipes=tuple(recipes),
        algorithms=algorithm_names(algorithms),
        seeds=seed_numbers(seeds),
        out=out,
        steps=None if steps is None else step_count(steps),
        overrides=tuple(overrides or ()),
        episodes=episodes,
        imports=tuple(imports or ()),
        grid=tuple(grid or ()),
    )
    work = plan.make_jobs(chosen, elsewhere=on is not None)
    executor = engines.open_executor(on, out, jobs)
    with progress_bar() as bar:

        def watch(state: SuiteProgress) -> None:
            trials = f"{state.finished} of {state.number} trials done"
            bar.update("; ".join(filter(None, (trials, ", ".join(state.running[:2])))), state.done, state.number)

        outcome = scheduler.run(work, jobs, say, watch, executor)
    if json:
        counts = {state: outcome.count(state) for state in STATES}
        stopped_by = outcome.signal.name if outcome.signal else None
        trials = [result.as_dict() for result in outcome.results]
        print_json({"out": str(out), **counts, "stopped_by": stopped_by, "cells": trials})
    else:
        print_table(COLUMNS, [_row(result) for result in outcome.results], COLUMNS[3:-1], COLUMNS[:4])
    if outcome.signal:
        progress = f"{outcome.count('finished', 'kept')} of {len(outcome.results)} trials are done"
        say(f"stopped by {outcome.signal.name}: {progress}; the same command continues.")
    if outcome.count("unfinished", "failed"):
        again = [*recipes, "--algorithms", algorithms, "--seeds", seeds]
        again += ["--steps", steps] if steps else []
        again += [*repeated("--set", overrides), *repeated("--import", imports), *repeated("--grid", grid)]
        again += ["--on", on] if on else []
        next_command("flowrl suite", *again, "--jobs", jobs, "--episodes", episodes, "--out", out)
    elif outcome.count("finished", "kept"):
        next_command("flowrl compare", out)
    else:  # all have diverged
        next_command("flowrl plot", outcome.results[0].trial.folder(out))
    return outcome.exit_code


# --- output ---------------------------------------------------------------------------------------


def _row(result: TrialResult) -> list[str]:
    fields = result.as_dict()
    state = f"{result.state}, exit {result.failure.exit_code}" if result.failure else result.state
    return [
        result.trial.recipe,
        result.trial.algorithm,
        result.trial.cell,
        str(result.trial.seed),
        cell(result.returns.get("random")),
        cell(result.returns.get("zero")),
        cell(fields["env_steps"], ","),
        cell(fields["seconds"], ".1f"),
        cell(fields["env_steps_per_s"], ",.0f"),
        state,
    ]


# --- arguments ------------------------------------------------------------------------------------


def step_count(text: str) -> int:
    """Parse '2M' → 2 000 000, '500k' → 500 000, '65536', '1_000_000'. Raises UsageError for other text."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kmb]?)", text.strip().lower())
    number = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 1 <= number <= MOST_STEPS or number != round(number):
        raise UsageError(
            f"--steps {text}: expected a number of environment steps up to {MOST_STEPS:g}, such as 2M, 500k or 65536."
        )
    return round(number)


def seed_numbers(text: str) -> tuple[int, ...]:
    """Parse '3' → 0, 1, 2 and '3-5' → 3, 4, 5. Raises UsageError for other text."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match:
        first, last = (0, int(match[1]) - 1) if match[2] is None else (int(match[1]), int(match[2]))
        if last > LARGEST_SEED or last - first >= MOST_SEEDS:
            raise UsageError(f"--seeds {text}: expected {MOST_SEEDS} seeds at most, up to {LARGEST_SEED}.")
        if first <= last:
            return tuple(range(first, last + 1))
    raise UsageError(f"--seeds {text}: expected a count (3 means 0, 1, 2) or a range (3-5).")


def algorithm_names(text: str) -> tuple[str, ...]:
    """Parse 'fpo,ppo' → fpo and ppo, each once. Raises UsageError for an unknown algorithm."""
    from flowrl.config.schema import ALGORITHMS

    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UsageError(f"--algorithms needs at least one of {', '.join(ALGORITHMS)}.")
    return tuple(choice("--algorithms", name, ALGORITHMS) for name in names)
