"""What holds for every option and argument of every command: no value is blank, and no number is infinite or NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

from flowrl.contracts.errors import UsageError


class CheckedCommand(TyperCommand):
    """A command that refuses blank values, such as those of an unset shell variable, and numbers that are not finite.

    A path would take '' for the current folder, and no comparison with NaN is true: a limit of it would limit nothing.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line; raises UsageError with the option and what to type."""
        typed = list(args)
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        written, _, _ = self.make_parser(ctx).parse_args(args=typed)
        for parameter in self.get_params(ctx):
            name = _name(parameter)
            if any(isinstance(text, str) and not text.strip() for text in _each(written.get(parameter.name))):
                raise UsageError(
                    f"{name} '': the value is blank, as where a shell variable is not set. Write one, or leave "
                    f"{name} out."
                )
            for number in _each(ctx.params.get(parameter.name)):
                if isinstance(number, float) and not math.isfinite(number):
                    raise UsageError(f"{name} {number}: expected a finite number, such as {name} 0.5.")
        return rest


def _each(value: Any) -> Iterator[Any]:
    """Yield a value, or each item of several."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _each(item)
    else:
        yield value


def _name(parameter: Any) -> str:
    """Return '--out', or the name of an argument in the help."""
    return next((each for each in parameter.opts if each.startswith("--")), parameter.metavar or parameter.name)
