"""Samplers as a command line names them: `heun`, `euler:10`, `path/file.py:Class`."""

from __future__ import annotations

import re

from flowrl.contracts.errors import UsageError
from flowrl.samplers import registry


def text_of(name: str, steps: int | None) -> str:
    """Return 'euler:10', or the name alone where there are no steps: what `parse` splits."""
    return f"{name}:{steps}" if steps else name


def parse(text: str) -> tuple[str, int | None]:
    """Split 'euler:10' into the name and the number of steps; None where there is none, as in 'heun' or a file.

    Raises UsageError, with what is meant, for 'euler10', 'euler-10' and 'euler:x'.
    """
    text = text.strip()
    if match := re.fullmatch(r"(.+):(\d{1,18})", text):
        return match[1], int(match[2])
    known = registry.names()
    name, colon, steps = text.rpartition(":")
    if colon and name in known:
        raise UsageError(
            f"--sampler {text}: after the colon comes the number of steps, a whole number such as {name}:8, and not "
            f"{steps!r}."
        )
    loose = re.fullmatch(r"([a-z_]\w*?)[-_ =(]*(\d{1,18})\)?", text, re.IGNORECASE)
    if text not in known and loose and loose[1].lower() in known:
        raise UsageError(
            f"--sampler {text}: there is no such sampler. Did you mean '{loose[1].lower()}:{loose[2]}', with "
            f"{loose[2]} steps?"
        )
    return text, None
