"""The noise modes and their names; without torch, for commands that only print them."""

from __future__ import annotations

from typing import Literal

NoiseMode = Literal["random", "zero", "fixed"]

NAMES: dict[str, dict[str, str]] = {"gaussian": {"random": "sampled", "zero": "mean"}}
"""Kind of policy -> noise mode -> how the actions of such a policy are called, where that is not the mode's name."""


def label(mode: str, scale: float) -> str:
    """Name noise of a mode and a scale: 'random', 'zero', 'fixed', '0.5 random'; any noise times 0 is zero noise."""
    if mode == "zero" or scale == 0:
        return "zero"
    return mode if scale == 1 else f"{scale:g} {mode}"
