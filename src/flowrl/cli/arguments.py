"""How the arguments of commands are read, where Typer's own types do not suffice."""

from __future__ import annotations

from flowrl.errors import UsageError


def whole_numbers(option: str, text: str) -> list[int]:
    """'1,2,4' as numbers, in the order given, each once; raises UsageError."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: expected whole numbers from 1 on, such as 1,2,4,8.")
    return list(dict.fromkeys(numbers))
