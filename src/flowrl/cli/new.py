"""`flowrl new`: write a first environment of one's own, with a recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Json, choice
from flowrl.cli.output import next_command, print_json, say


def new(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="The file to write, and its recipe beside it.")],
    kind: Annotated[
        str, typer.Option(help="gymnasium (any Python simulation) or mujoco (a robot on the fast simulation).")
    ] = "gymnasium",
    json: Json = False,
) -> None:
    """Write a working environment of your own, and a recipe that trains on it in about a minute.

    Nothing is overwritten. Change the class step by step, and check it with flowrl envs FILE.py:Class --check.
    """
    from flowrl.experiments import new_environment

    made = new_environment.write(file, choice("--kind", kind, new_environment.KINDS))
    if json:
        print_json({name: str(value) for name, value in asdict(made).items()} | {"id": made.id})
    say(f"wrote {made.file} (class {made.name}) and {made.recipe}.")
    say(f"check it after every change: flowrl envs {made.id} --check")
    next_command("flowrl train", made.recipe)
