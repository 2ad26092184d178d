"""`flowrl train`: train the policy of a recipe."""

from __future__ import annotations

import json as json_text
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import ALL_KEYS, Imports, Json, code_options, repeated
from flowrl.cli.output import document_descriptor, next_command, print_json, print_line, say
from flowrl.contracts.errors import UsageError
from flowrl.contracts.notices import mute

if TYPE_CHECKING:
    from flowrl.experiments.ranks import Rank
    from flowrl.experiments.train import TrainPlan, TrainResult


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG", help="A recipe: a YAML file, or the name of a shipped one, such as gridworld.yaml."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=f"Set one key, such as learner.clip=0.1. {ALL_KEYS}"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run; short for --set seed=N.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run folders; default: runs.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run folder.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run folder or checkpoint, bit for bit.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="CKPT", help="Begin a new run with the weights of this checkpoint or run folder."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto; short for --set device=….")] = None,
    threads: Annotated[int | None, typer.Option(help="PyTorch's threads; short for --set threads=N.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processes on this machine that share the shards; 1: this one alone."),
    ] = None,
    max_restarts: Annotated[
        int,
        typer.Option(min=0, max=1000, help="How often all processes begin again where one was killed or has failed."),
    ] = 0,
    imports: Imports = None,
    callbacks: Annotated[
        list[str] | None,
        typer.Option(
            "--callback",
            metavar="FILE.py:NAME",
            help="Call this with the metrics of every iteration; it stops the run by returning True. Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe and print it with all defaults; do not train.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a policy and write a run folder.

    It holds config.yaml, metrics.jsonl, TensorBoard events, ckpt.pt and best.pt. Ctrl-C finishes the iteration,
    saves, and prints how to continue; a second one quits at once.
    """
    from flowrl.experiments import ranks

    _refuse_new_folder(resume, out, name)
    initial = None if init_from is None else json_text.dumps(str(init_from))
    short = {"seed": seed, "init_from": initial, "device": device, "threads": threads}
    settings = [*(overrides or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    named = [*repeated("--import", imports), *repeated("--callback", callbacks)]
    rank = None if processes == 1 or dry_run else ranks.rank_of()
    if rank is None and (processes or 1) > 1 and not dry_run:
        options = {"--out": out, "--name": name, "--resume": resume}
        words = [*([config] if config else []), *repeated("--set", settings), *named, *(["--json"] if json else [])]
        words += [str(word) for option, value in options.items() if value is not None for word in (option, value)]
        return _launch(["train", *words], processes or 1, max_restarts, named)
    _refuse_options_of_a_launch(rank, processes, 0 if dry_run else max_restarts)
    if rank is not None and not rank.is_first:
        mute()
    if rank is not None:  # before PyTorch reads it: a lost connection is not worth a stack of C++
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from flowrl.config import recipe
    from flowrl.experiments import train

    def planned() -> TrainPlan:
        plan = train.plan(config, settings, resume, imports or (), callbacks or ())
        if config is not None and (note := recipe.tuned_for_another_environment(config, settings)):
            say(note)
        return plan

    if rank is not None:
        return _train_with_others(rank, planned, out, name, imports, callbacks, json=json)
    plan = planned()
    if dry_run:
        ranks.check_shards(processes or 1, plan.config.shards, f"--processes {processes}")
        _check(plan)
        print_json(plan.config.model_dump(mode="json")) if json else print(train.resolved(plan), end="")
        source = ["--resume", resume] if resume else [config]
        together = [] if processes is None else ["--processes", processes]
        next_command("flowrl train", *source, *repeated("--set", settings), *named, *together)
        return 0
    return _report(plan, train.train(plan, out or Path("runs"), name, quiet=json), [], json=json)


def _report(plan: TrainPlan, result: TrainResult, together: list[str], *, json: bool) -> int:
    """Print the result of a training and return the exit code; `together` are the options of its processes."""
    if json:
        print_json(result.as_dict())
    elif not result.signal:
        print_line(result.summary())
    _lead_on(plan, result, together)
    return 128 + result.signal.value if result.signal else 0


def _launch(words: list[str], processes: int, restarts: int, code: list[str]) -> int:
    """Train in several processes on this machine, each of which is `flowrl` with these `words`."""
    from flowrl.experiments import launch

    return launch.run(words, processes, restarts, code, document_descriptor())


def _train_with_others(
    rank: Rank,
    planned: Callable[[], TrainPlan],
    out: Path | None,
    name: str | None,
    imports: list[str] | None,
    callbacks: list[str] | None,
    *,
    json: bool,
) -> int:
    """Train as one of several processes: the first one plans, writes and prints."""
    from flowrl.experiments import distributed, train

    folder = out or Path("runs")
    with distributed.joined(rank) as group:

        def planned_or_restarted() -> TrainPlan:
            plan = planned()
            if plan.content is None and (before := group.folder_before(folder, name)) is not None:
                return train.plan(None, [], before, imports or (), callbacks or ())
            return plan

        plan = group.plan(planned_or_restarted)
        distributed.use_own_gpu(plan.config, rank)
        if rank.is_first:
            result = train.train(plan, folder, name, quiet=json, group=group)
        else:
            stopped = train.follow(plan, group)
            return 128 + stopped.value if stopped else 0
    together = rank.said_by.split() if rank.said_by.startswith("--processes") else []
    return _report(plan, result, together, json=json)


def _refuse_options_of_a_launch(rank: Rank | None, processes: int | None, restarts: int) -> None:
    """Raise UsageError for options that this process cannot honour."""
    if rank is not None and processes is not None:
        raise UsageError(
            f"--processes {processes}: this is one of several processes already ({rank.said_by}). Leave it "
            "out, or type --processes 1 for a training of its own in each."
        )
    if restarts:
        raise UsageError(
            f"--max-restarts {restarts}: flowrl starts several processes again that it has started, with --processes 2 "
            "or more; torchrun has an option of this name of its own. Leave it out."
        )


def _check(plan: TrainPlan) -> None:
    """Make the environment, which raises what is wrong with it, and compare it with the weights of a warm start."""
    from flowrl.envs import factory
    from flowrl.experiments import warm_start

    env = factory.make(plan.config.env, count=1)
    env.close()
    if plan.initial is not None:
        warm_start.check_environment(plan.initial, env)


def _lead_on(plan: TrainPlan, result: TrainResult, together: list[str]) -> None:
    """Print why a training ended, unless it has just spent its budget, and the next useful command."""
    config = plan.config.model_dump(mode="json")
    code = code_options(config, training=True)
    if plan.is_finished:
        steps = plan.config.total_steps
        say(f"{result.folder} is finished: it has done all of its {steps:,} env steps, and nothing was trained.")
        next_command("flowrl train --resume", result.folder, "--set", f"total_steps={2 * result.env_steps}", *code)
        return
    if result.signal:
        say(f"stopped by {result.signal.name}; saved {result.folder}/ckpt.pt.")
        next_command("flowrl train --resume", result.folder, *code, *together)
        return
    if result.callback:
        done = f"{result.env_steps:,} env steps"
        say(f"stopped by the callback {result.callback} after {done}; saved {result.folder}/ckpt.pt.")
    next_command("flowrl eval", result.folder, *code_options(config))


def _refuse_new_folder(resume: Path | None, out: Path | None, name: str | None) -> None:
    """Raise UsageError for an option that chooses a folder, beside --resume: a run stays where it is."""
    for option, value in (("--out", out), ("--name", name)):
        if resume is not None and value is not None:
            raise UsageError(
                f"{option} {value}: a resumed run stays in its folder. Leave {option} out; to train a copy of the run, "
                f"copy {resume} and resume the copy."
            )
