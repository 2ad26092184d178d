"""Where the noise of an exported policy comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from flowrl.contracts.errors import UsageError, did_you_mean

ExportedNoise = Literal["input", "zero", "fixed", "seeded"]
WORDS = ("input", "zero", "half", "fixed:N", "seeded:N")
LARGEST_SEED = 2**62


@dataclass(frozen=True)
class NoiseChoice:
    """The noise of an export: `input` is given with every observation, `zero` is none, `fixed` is one draw for all
    actions, and `seeded` is drawn for each. `scale` is the factor on it, and `seed` that of its draws."""

    mode: ExportedNoise = "input"
    scale: float = 1.0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.mode}:{self.seed}" if self.mode in ("fixed", "seeded") else self.mode

    @property
    def reason(self) -> str:
        """What the choice means for the actions, in a sentence."""
        if self.mode == "zero":
            return (
                "one action per observation; a policy that chooses among several ways may lose them, so compare returns"
            )
        if self.mode == "fixed":
            return f"one draw (seed {self.seed}) for all actions"
        drawn = "drawn inside" if self.mode == "seeded" else "an input, N(0, 1), drawn for each action"
        return f"{drawn}{'' if self.scale == 1 else f', times {self.scale:g}'}, as in the training"


def parse(text: str, scale: float = 1.0) -> NoiseChoice:
    """Parse input, zero, half, fixed:N or seeded:N; `scale` is the policy's own factor. Raises UsageError."""
    word, colon, number = text.partition(":")
    if text == "half":
        return NoiseChoice("input", 0.5 * scale)
    if text == "zero":
        return NoiseChoice("zero", 0.0)
    if text == "input":
        return NoiseChoice("input", scale)
    if word in ("fixed", "seeded") and (not colon or re.fullmatch(r"\d{1,19}", number)):
        seed = int(number or 0)
        if seed <= LARGEST_SEED:
            return NoiseChoice("fixed" if word == "fixed" else "seeded", scale, seed)
    hint = did_you_mean(word, ("input", "zero", "half", "fixed", "seeded"), {"random": "input", "mean": "zero"})
    raise UsageError(f"--noise {text}: expected one of {', '.join(WORDS)}, with a seed N up to 2^62.{hint}")
