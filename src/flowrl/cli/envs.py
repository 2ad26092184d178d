"""`flowrl envs` lists the environments that flowrl can train on; `flowrl envs ID` describes one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flowrl.cli.arguments import Json
from flowrl.cli.output import next_command, print_facts, print_json, print_table


def envs(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A Gymnasium id to describe; default: list all.")
    ] = None,
    json: Json = False,
) -> None:
    """List the environments, or describe one.

    A description holds the spaces, the episode limit, whether a run resumes exactly, and how to train on it.
    """
    from flowrl.config import recipe
    from flowrl.envs import descriptions

    recipes = recipe.shipped_by_environment()
    if id is None:
        rows = [row | {"recipe": recipes.get(row["id"], "")} for row in descriptions.catalogue()]
        if json:
            print_json(rows)
        else:
            lines = [[row["id"], row["episode"], row["recipe"], _origin(row)] for row in rows]
            print_table(["id", "steps", "recipe", "origin"], lines, numbers=("steps",))
        next_command("flowrl envs", descriptions.EXAMPLE)
        return
    description = descriptions.describe(id)
    train = _train(description.values, recipes.get(id))
    if json:
        print_json(description.values | {"train": train})
    else:
        print_facts(description.lines)
    next_command(train)


def _origin(row: dict[str, str]) -> str:
    return f"{row['origin']} ({row['note']})" if row["note"] else row["origin"]


def _train(description: dict[str, Any], recipe: str | None) -> str:
    """Return the command that trains on it: with its recipe, or with that of a similar environment."""
    if recipe is not None:
        return f"flowrl train {recipe}"
    small = description["origin"] == "gymnasium classic_control"
    similar = "pendulum.yaml" if small else "halfcheetah.yaml"
    return f"flowrl train {similar} --set env.id={description['id']}"
