"""`flowrl play`: write a video of one or more policies."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flowrl.cli.arguments import (
    LARGEST_SEED,
    Ckpt,
    GridSteps,
    Imports,
    Json,
    NoiseModes,
    NoiseScales,
    OtherEnv,
    SamplerNames,
    SetOptions,
    code_options,
    import_code,
)
from flowrl.cli.output import cell, next_command, print_json, print_line, print_table
from flowrl.cli.progress import progress_bar
from flowrl.contracts.errors import UsageError
from flowrl.policies import noise_modes

COLUMNS = ["panel", "sampler", "steps", "NFE", "noise", "episode", "return", "success", "length"]
NUMBERS = {"steps", "NFE", "episode", "return", "length"}
IDENTITY = COLUMNS[:6]
# of every row; one more names what the episode was about, such as `motion`, where the environment has several
KEYS = {"label", "sampler", "steps", "nfe", "noise", "noise_scale", "episode", "return", "length", "success", "ended"}
LONGEST_SIDE = 4096  # pixels of a picture: the most that graphics libraries draw without a screen


def play(
    ckpt: Ckpt,
    sampler: SamplerNames = None,
    steps: GridSteps = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CKPT|NAME[:STEPS]", help="Show another checkpoint or sampler beside the first; repeatable."
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="The file to write (.webp, .gif, .mp4); default: play.webp beside the checkpoint."),
    ] = None,
    overrides: SetOptions = None,
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Episodes to play, one after the other.")] = 1,
    max_steps: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Cut an episode after this many steps; default: 10000.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the first episode; the following use seed+1, ….")
    ] = 0,
    noise: NoiseModes = None,
    noise_scale: NoiseScales = None,
    env: OtherEnv = None,
    imports: Imports = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT", help="Size of one panel's picture; default: 320x240, or the environment's."
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option(min=1, max=1000, help="Frames per second, at most; steps are skipped to keep real time.")
    ] = 30,
    json: Json = False,
) -> None:
    """Record a video of a policy, or of several side by side.

    All start from the same state. No display is needed.
    """
    from flowrl.envs.rendering import Size
    from flowrl.experiments import play
    from flowrl.experiments.evaluate import EvalRequest

    import_code(imports)
    request = EvalRequest(sampler, steps, tuple(overrides or ()), episodes, seed, noise, env, noise_scale)
    with progress_bar() as bar:
        result = play.play(
            ckpt,
            request,
            compare or (),
            path=video,
            size=Size(*pixels(size)) if size is not None else None,
            fps=fps,
            max_steps=max_steps,
            progress=lambda episode, step: bar.update(
                f"episode {episode} of {episodes}, step {step:,}", episode - 1, episodes
            ),
        )
    if json:
        print_json({name: value for name, value in asdict(result).items() if name != "config"})
        return
    variants = dict.fromkeys(key for row in result.episodes for key in row if key not in KEYS)
    print_table((*COLUMNS, *variants), [_line(row) for row in result.episodes], NUMBERS, IDENTITY)
    print_line(result.sentence)
    own = result.episodes[0]["sampler"]
    if sampler is None and not compare and own is not None:
        next_command("flowrl play", ckpt, "--sampler", "euler:1,rk4:4", *code_options(result.config))
    else:
        next_command("flowrl eval", ckpt, *code_options(result.config))


def pixels(text: str) -> tuple[int, int]:
    """Parse '320x240' to (320, 240); raises UsageError."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if match is None or not all(16 <= int(side) <= LONGEST_SIDE for side in match.groups()):
        raise UsageError(
            f"--size {text}: expected WIDTHxHEIGHT in pixels, from 16 to {LONGEST_SIDE} each, such as 320x240."
        )
    return int(match[1]), int(match[2])


def _line(row: dict[str, Any]) -> list[str]:
    """Return a row of the table under `COLUMNS`."""
    return [
        row["label"],
        row["sampler"] or "-",
        str(row["steps"] or "-"),
        cell(row["nfe"]),
        noise_modes.label(row["noise"], row["noise_scale"]),
        str(row["episode"]),
        f"{row['return']:.4g}" + ("" if row["ended"] else " (cut)"),
        {True: "yes", False: "no", None: "-"}[row["success"]],
        str(row["length"]),
        *(row[key] for key in row if key not in KEYS),
    ]
