"""How the arguments of commands are read, where Typer's own types do not suffice.

Every function takes an argument as it was typed and raises UsageError where it cannot be read.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING

from flowrl.contracts.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from flowrl.experiments.comparison.results import Scale

UNITS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}


def whole_numbers(option: str, text: str) -> list[int]:
    """'1,2,4' as numbers, in the order given, each once."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: expected whole numbers from 1 on, such as 1,2,4,8.")
    return list(dict.fromkeys(numbers))


def step_count(text: str) -> int:
    """'2M' → 2 000 000, '500k' → 500 000, '65536', '1_000_000'."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kmb]?)", text.strip().lower())
    number = float(match[1]) * UNITS[match[2]] if match else 0.0
    if number < 1 or number != round(number):
        raise UsageError(
            f"--steps {text}: expected a number of environment steps, such as 2M, 500k or 65536."
        )
    return round(number)


def seed_numbers(text: str) -> tuple[int, ...]:
    """'3' → 0, 1, 2; '3-5' → 3, 4, 5."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if match:
        first, last = (0, int(match[1]) - 1) if match[2] is None else (int(match[1]), int(match[2]))
        if first <= last:
            return tuple(range(first, last + 1))
    raise UsageError(
        f"--seeds {text}: expected how many seeds (3 are 0, 1 and 2) or the first and last, as in 3-5."
    )


def algorithm_names(text: str) -> tuple[str, ...]:
    """'fpo,ppo' → fpo and ppo, each once."""
    from flowrl.config.schema import ALGORITHMS

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in ALGORITHMS:
            near = did_you_mean(name, ALGORITHMS)
            raise UsageError(
                f"--algorithms {text}: there is no {name!r}.{near} Those are: {', '.join(ALGORITHMS)}."
            )
    if not names:
        raise UsageError(f"--algorithms needs at least one of {', '.join(ALGORITHMS)}.")
    return names


def noise_modes(text: str) -> tuple[str, ...]:
    """'both' → random and zero."""
    from flowrl.experiments.suite.trial import MODES

    if text == "both":
        return MODES
    if text not in MODES:
        near = did_you_mean(text, (*MODES, "both"))
        raise UsageError(f"--noise {text}: expected random, zero or both.{near}")
    return (text,)


def scale_of(text: str) -> Scale:
    """'0,1000' → the scale from 0 to 1000."""
    from flowrl.experiments.comparison.results import Scale

    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        raise UsageError(f"--scale {text}: expected the returns that are 0 and 1, as in --scale 0,1000.")
    return Scale(low, high, f"--scale {text}")
