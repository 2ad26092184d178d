"""`flowrl sweep`: search for good values of a recipe's keys."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowrl.cli.arguments import ALL_KEYS, LARGEST_SEED, MOST_EPISODES, Imports, Json, On, choice, import_code
from flowrl.cli.output import cell, next_command, print_facts, print_json, print_table, say
from flowrl.cli.progress import progress_bar
from flowrl.cli.suite import seed_numbers, step_count
from flowrl.contracts.errors import UsageError
from flowrl.storage.lock import Locked, RunLock

if TYPE_CHECKING:
    from flowrl.experiments.suite.scheduler import SuiteProgress
    from flowrl.experiments.sweep.study import SweepOptions


def sweep(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")],
    space: Annotated[
        Path, typer.Option(metavar="FILE", help="YAML: keys with {low, high, log, step}, or with choices.")
    ],
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, help="Trials in all; more continue a finished sweep.")
    ] = 50,
    pruner: Annotated[str, typer.Option(help="Stop bad trials early: none, median or hyperband.")] = "none",
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Trials at a time, each with one thread.")] = 1,
    seeds: Annotated[str, typer.Option(help="Seeds of each trial: a count (3 means 0, 1, 2) or a range (3-5).")] = "1",
    steps: Annotated[
        str | None, typer.Option(help="Environment steps of each run, as in 2M or 500k; default: the recipe's.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=f"Set one key for all trials. {ALL_KEYS}")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=MOST_EPISODES, help="Episodes of each evaluation.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the proposed values.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; default: runs/sweep-RECIPE.", show_default=False)
    ] = None,
    on: On = None,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Search for values of a recipe's keys with the largest return, by Optuna.

    A trial trains and evaluates the recipe with proposed values; its value is the mean return of the evaluation, over
    its seeds. The first trial is the recipe as it is. The same command continues after an interruption. Writes
    best.yaml, which `flowrl train` takes.
    """
    from flowrl.experiments.suite import engines
    from flowrl.experiments.sweep import study as studies
    from flowrl.experiments.sweep.runner import SweepRunner
    from flowrl.experiments.sweep.shared_study import alone

    choice("--pruner", pruner, studies.PRUNERS)
    studies.optuna()
    import_code(imports)
    options = _options(recipe, space, trials, seeds, steps, overrides or [], episodes, pruner, seed, out)
    options = replace(options, imports=tuple(imports or ()))
    executor = engines.open_executor(on, options.out, jobs)
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not studies.is_shared(options.out):
            stack.callback(_the_only_process(options.out).release)
        with alone(options.out):
            study = studies.open_study(options, jobs)
        bar = stack.enter_context(progress_bar())

        def watch(state: SuiteProgress) -> None:
            words = f"{state.finished} of {state.number} trials done"
            bar.update("; ".join(filter(None, (words, ", ".join(state.running[:2])))), state.done, state.number)

        outcome = SweepRunner(study, options, jobs, say, watch, executor).run()
    stopped_by = outcome.signal.name if outcome.signal else None
    _print(study, options, stopped_by, as_json=json)
    if outcome.signal:
        say(f"stopped by {stopped_by}; the same command continues.")
    best = options.out / studies.BEST
    if best.is_file():
        next_command("flowrl train", best, "--seed", max(options.seeds) + 1)
    return outcome.exit_code


def _the_only_process(out: Path) -> RunLock:
    """Lock the folder of a sweep in an SQLite database. Raises UsageError when another process works on it."""
    from flowrl.experiments import run_folder

    try:
        return run_folder.lock(out)
    except Locked as error:
        raise UsageError(
            f"{out}: another flowrl sweep works in this folder, whose study is in an SQLite database of an older "
            "version. Several processes cannot share that: wait for it, or choose another --out."
        ) from error


def _options(
    recipe: str,
    space: Path,
    trials: int,
    seeds: str,
    steps: str | None,
    overrides: list[str],
    episodes: int,
    pruner: str,
    seed: int,
    out: Path | None,
) -> SweepOptions:
    """Check everything that is typed, before anything is written."""
    from flowrl.experiments import train
    from flowrl.experiments.sweep import space as spaces
    from flowrl.experiments.sweep.study import SweepOptions

    count = None if steps is None else step_count(steps)
    base = [*([] if count is None else [f"total_steps={count}"]), *overrides]
    for override in overrides:
        if (option := spaces.OPTIONS.get(override.partition("=")[0].strip())) and (option != "--steps" or count):
            raise UsageError(f"--set {override}: the trials of a sweep get this key from {option}.")
    train.plan(recipe, base, None)  # raises what is wrong with the recipe itself
    dimensions = spaces.read(space, lambda override: _check(recipe, base, override))
    return SweepOptions(
        recipe=recipe,
        space=tuple(dimensions),
        trials=trials,
        seeds=seed_numbers(seeds),
        out=out or Path("runs") / f"sweep-{Path(recipe).name.removesuffix('.yaml')}",
        steps=count,
        overrides=tuple(overrides),
        episodes=episodes,
        pruner=pruner,
        seed=seed,
    )


def _check(recipe: str, base: list[str], override: str) -> None:
    from flowrl.experiments.api import load_config

    load_config(recipe, [*base, override])


def _print(study: Any, options: SweepOptions, stopped_by: str | None, *, as_json: bool) -> None:
    from flowrl.experiments.sweep import study as studies

    best, shares = studies.best_trial(study), studies.importance(study)
    ranked = sorted(
        study.trials, key=lambda trial: (trial.value is None, -(trial.value if trial.value is not None else 0))
    )
    ranked = [trial for trial in ranked if trial.state.name != "WAITING"]
    if as_json:
        path = str(options.out / studies.BEST) if best is not None else None
        documents = {trial.number: _as_dict(trial, options) for trial in ranked}
        head = {"out": str(options.out), "objective": "mean return of the final evaluation", "stopped_by": stopped_by}
        chosen = None if best is None else documents[best.number]
        print_json(
            head | {"best": chosen, "best_recipe": path, "importance": shares, "trials": list(documents.values())}
        )
        return
    keys = [each.key for each in options.space]
    names = [key.rpartition(".")[2] for key in keys]
    columns = ["trial", "return", *(names if len(set(names)) == len(names) else keys), "state"]
    rows = [_row(trial, options) for trial in ranked[: studies.MOST_LISTED]]
    print_table(columns, rows, columns[:2])
    if shares:
        print_facts([(key, f"{share:.0%}") for key, share in shares.items()], "importance")
    if best is not None:
        say(f"wrote {options.out / studies.BEST}: trial {best.number}, mean return {best.value:.5g}")


def _as_dict(trial: Any, options: SweepOptions) -> dict[str, Any]:
    from flowrl.experiments.sweep import study as studies

    return {
        "trial": trial.number,
        "state": _state(trial),
        "return": trial.value if trial.state.name == "COMPLETE" else None,
        "returns": trial.user_attrs.get("returns"),
        "values": studies.values_of(trial, options.space),
        "folder": str(options.out / f"trial{trial.number:04d}"),
        "message": trial.user_attrs.get("message"),
    }


def _row(trial: Any, options: SweepOptions) -> list[str]:
    document = _as_dict(trial, options)
    values = [document["values"].get(each.key) for each in options.space]
    shown = [
        cell(value, ".4g") if isinstance(value, float) else "-" if value is None else str(value) for value in values
    ]
    return [str(trial.number), cell(document["return"], ".5g"), *shown, document["state"]]


def _state(trial: Any) -> str:
    if trial.user_attrs.get("exit_code") == 3:
        return "diverged"
    return {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished"}[trial.state.name]
