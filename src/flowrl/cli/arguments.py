"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flowrl.contracts.errors import UsageError, did_you_mean

Ckpt = Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run folder.")]

SamplerNames = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        "--samplers",
        metavar="NAME[:STEPS],…",
        help="One sampler or several, named as in `flowrl samplers`, or a fitted FILE.yaml; default: the training's.",
    ),
]

GridSteps = Annotated[int | None, typer.Option(min=1, max=10_000, help="Steps of the sampler's grid.")]

ALL_KEYS = "Repeatable. `flowrl train gridworld.yaml --dry-run` lists all keys."
"""What --set says of itself in every command."""

SetOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=f"Set one key, such as sampler.rtol=1e-3. {ALL_KEYS}"),
]

MOST_EPISODES = 1_000_000
LARGEST_SEED = 2**62

Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all random numbers.")]

NoiseModes = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="MODE,…",
        help="random, zero or fixed noise (Gaussian policy: sampled or mean action), or several.",
    ),
]

NoiseScales = Annotated[
    str | None,
    typer.Option(
        "--noise-scale",
        metavar="S,…",
        help="Factor on the noise, or several: 0 zero noise, 1 as trained, 0.5 half (Gaussian policy: of its spread).",
    ),
]

OtherEnv = Annotated[
    str | None, typer.Option("--env", help="Another environment, with equal observation and action sizes.")
]

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]

On = Annotated[
    str | None,
    typer.Option(
        metavar="ENGINE",
        help="Make the trials on a cluster, --jobs at a time: slurm, slurm:partition=gpu,timeout_min=600, ray or "
        "ray:ADDRESS. Default: in processes of this machine.",
    ),
]

Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="FILE.py|MODULE",
        help="Import code of your own first, which may register environments; a run's code is run when it is named "
        "here. Repeatable.",
    ),
]


def repeated(option: str, values: Iterable[str] | None) -> list[str]:
    """Return the words of a command line that give `option` each of the `values`."""
    return [word for value in values or () for word in (option, value)]


def import_code(texts: Collection[str] | None) -> None:
    """Name and import the files and modules `texts`, which the user has typed; raises UsageError."""
    from flowrl.contracts import user_code

    user_code.name_code(*(texts or ()))
    for text in texts or ():
        user_code.load(text, "--import")


def code_options(config: Mapping[str, Any], *, training: bool = False, sampler_only: bool = False) -> list[str]:
    """Return the options that name again the code in the plain `config` of a run: ['--import', 'my_env.py'].

    A checkpoint may come from anyone, so a command runs such code only when the user names it. Callbacks are run by a
    `training`, and an export or a benchmark runs the sampler only.
    """
    from flowrl.config import named_code

    if sampler_only:
        config = {"sampler": config.get("sampler")}
    return named_code.import_words(config, named_code.KEYS if training else named_code.ACTING)


def choice(option: str, text: str, choices: Collection[str]) -> str:
    """Return `text`. Raises UsageError, with the nearest choice, unless it is one of `choices`."""
    if text not in choices:
        raise UsageError(f"{option} {text}: expected one of {', '.join(choices)}.{did_you_mean(text, choices)}")
    return text


def several(option: str, text: str, choices: Collection[str]) -> list[str]:
    """Parse 'a,b' as some of `choices`, in the order given, each once. Raises UsageError, with the nearest choice."""
    return list(dict.fromkeys(choice(option, part.strip(), choices) for part in text.split(",")))


def whole_numbers(option: str, text: str, most: int = 10_000) -> list[int]:
    """Parse '1,2,4' as numbers, in the order given, each once. Raises UsageError below 1, above `most`
    and for other text."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: expected whole numbers from 1 on, such as 1,2,4,8.")
    if max(numbers) > most:
        raise UsageError(f"{option} {max(numbers)}: expected whole numbers up to {most:,}.")
    return list(dict.fromkeys(numbers))
