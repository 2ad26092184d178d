"""`flowrl eval`: evaluate a policy, under any sampler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowrl.cli.arguments import (
    MOST_EPISODES,
    Ckpt,
    GridSteps,
    Imports,
    Json,
    NoiseModes,
    NoiseScales,
    OtherEnv,
    SamplerNames,
    Seed,
    SetOptions,
    code_options,
    import_code,
    whole_numbers,
)
from flowrl.cli.output import cell, next_command, print_json, print_table, say
from flowrl.cli.progress import parts

if TYPE_CHECKING:
    from flowrl.experiments.evaluate import EvalRequest, EvalResult, LoadedCheckpoint


def evaluate(
    ckpt: Ckpt,
    sampler: SamplerNames = None,
    steps: GridSteps = None,
    sweep_steps: Annotated[
        str | None, typer.Option(metavar="1,2,4,8", help="Evaluate once per number of steps.")
    ] = None,
    overrides: SetOptions = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Compare samplers, steps and noise scales in pairs with the training's: what to deploy."
        ),
    ] = False,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_EPISODES, help="Episodes to play; default: 100, in a --sweep 256 a row."),
    ] = None,
    seed: Seed = 0,
    noise: NoiseModes = None,
    noise_scale: NoiseScales = None,
    perturbed: Annotated[
        bool,
        typer.Option(
            "--perturbed", help="Add the perturbation that a flow explores with, as PPO's sampled actions have theirs."
        ),
    ] = False,
    env: OtherEnv = None,
    imports: Imports = None,
    min_return: Annotated[float | None, typer.Option(help="Exit with 7 when the mean return is below this.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the table to this file, with a row for each motion of HumanoidTrack."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for a --sweep's sampler-sweep.json and .png; default: beside the checkpoint."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Play episodes and report how good the policy is.

    Reports return, success and length with 95 % intervals, velocity evaluations (NFE) and time per action, for
    each given sampler, number of steps, noise mode and scale. With --sweep all play the same episodes with the same
    noise, and are timed in torch, ONNX Runtime and C.
    """
    from flowrl.cli import sampler_sweep
    from flowrl.contracts.errors import ThresholdMissed, UsageError
    from flowrl.experiments import evaluate
    from flowrl.reporting import spreadsheet

    if steps is not None and sweep_steps is not None:
        raise UsageError("--steps and --sweep-steps exclude each other: give --sweep-steps alone.")
    if out is not None and not sweep:
        raise UsageError("--out belongs to --sweep, which writes two files. Leave it out, or add --sweep.")
    import_code(imports)
    count = episodes or 100
    changes = tuple(overrides or ())
    request = evaluate.EvalRequest(sampler, steps, changes, count, seed, noise, env, noise_scale, perturbed)
    opened = evaluate.open_checkpoint(ckpt)
    counts = whole_numbers("--sweep-steps", sweep_steps) if sweep_steps is not None else None
    if sweep:
        for option, value in (("--csv", csv), ("--min-return", min_return)):
            if value is not None:
                raise UsageError(f"{option} does not go with --sweep: leave it out, or evaluate the sampler alone.")
        sampler_sweep.compare(opened, request, counts, episodes, out, as_json=json)
        return
    requests = list(dict.fromkeys(map(opened.applicable, request.each(counts))))
    if csv is not None:
        spreadsheet.check(csv)
    results = _evaluate_each(opened, requests, quiet=json)
    rows = [result.summary() for result in results]
    if json:
        print_json(rows if counts or len(rows) > 1 else rows[0])
    else:
        say(f"{opened.path}: {opened.title}, {count} episodes, seed {seed}")
        columns, lines = _table(rows)
        print_table(columns, lines, [name for name in columns if name not in TEXTS], KEYS)
    if csv is not None:
        spreadsheet.write([row for result in results for row in result.by_variant()], csv)
        say(f"wrote {csv}")
    saved = opened.config.model_dump(mode="json")
    if rows[0]["sampler"] is None:  # a Gaussian policy
        next_command("flowrl play", ckpt, *code_options(saved))
    elif sampler is None:
        next_command("flowrl eval", ckpt, "--sampler", "euler:10,heun:5,dopri5", *code_options(saved))
    else:
        code = code_options(saved, sampler_only=True)
        next_command("flowrl bench-latency", ckpt, *code, *(["--sampler", "euler,heun"] if code else []))
    missed = [row for row in rows if min_return is not None and row["return_mean"] < min_return]
    if missed:
        raise ThresholdMissed(f"the mean return {missed[0]['return_mean']:.4g} is below --min-return {min_return:g}")


ENDLESS = 10_000  # steps of an episode after which the advice is given that an environment may have no end


def _evaluate_each(opened: LoadedCheckpoint, requests: list[EvalRequest], *, quiet: bool) -> list[EvalResult]:
    """Evaluate the requests one after the other, with progress on stderr."""
    from flowrl.experiments import evaluate

    results: list[EvalResult] = []
    advised = False
    with parts(len(requests), quiet=quiet) as (bar, done):
        for request in requests:
            begun = f"{done.label}{request.title}".rstrip()

            def show(ended: int, running: int, request: EvalRequest = request, begun: str = begun) -> None:
                nonlocal advised
                long = f", step {running:,}" if running >= 1000 else ""
                bar.update(f"{begun} {ended} of {request.episodes} episodes{long}".strip(), ended, request.episodes)
                if running == ENDLESS and not advised:
                    advised = True
                    say(
                        f"an episode is still running after {running:,} steps. If this environment has no end, stop "
                        "with Ctrl-C and give it a time limit: --set env.options.max_episode_steps=1000"
                    )

            results.append(evaluate.evaluate_checkpoint(opened, request, show))
            row = results[-1].summary()
            sampler = ":".join(str(row[key]) for key in ("sampler", "steps") if row[key] is not None)
            low, high = row["return_ci95"]
            interval = f"[{cell(low)}, {cell(high)}]"
            done.finish(f"{sampler or 'policy'}, {_noise(row)} noise: return {row['return_mean']:.4g} {interval}")
    return results


KEYS = {"sampler", "steps", "NFE", "noise"}  # columns that identify a row
TEXTS = {"sampler", "noise", "return (95 %)"}  # columns that are not numbers


def _noise(row: dict[str, Any]) -> str:
    """Return the noise of a row: 'random', '0.5 random'."""
    from flowrl.policies import noise_modes

    label = noise_modes.label(row["noise"], row["noise_scale"])
    return f"{label}, perturbed" if row["perturbation"] else label


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells; the measures of the environment come before the time per action."""
    from flowrl.experiments.suite.trial import EvalSummary

    measures = [name for name in rows[0] if name not in EvalSummary.model_fields]
    columns = ["sampler", "steps", "NFE", "noise", "return (95 %)", "IQM", "success", "length"]
    lines = []
    for row in rows:
        low, high = row["return_ci95"]
        lines.append(
            [
                row["sampler"] or "-",
                cell(row["steps"]),
                cell(row["nfe"]),
                _noise(row),
                f"{row['return_mean']:.4g} [{cell(low)}, {cell(high)}]",
                cell(row["return_iqm"]),
                cell(row["success_rate"]),
                cell(row["length_mean"]),
                *(cell(row[name]) for name in measures),
                f"{row['action_us']:.1f}",
            ]
        )
    return [*columns, *measures, "µs/action in batch"], lines
