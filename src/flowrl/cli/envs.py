"""`flowrl envs` lists the environments that flowrl can train on; `flowrl envs ID` describes or checks one."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flowrl.cli.arguments import ALL_KEYS, Imports, Json, import_code, repeated
from flowrl.cli.output import next_command, print_facts, print_json, print_table, say
from flowrl.contracts.errors import ThresholdMissed, UsageError


def envs(
    id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A Gymnasium id, or my_env.py:MyEnv, to describe; default: list all."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Try it out: random actions, seeds, saved states, the time of a step.")
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=f"Set a key of env, as options.length=3. {ALL_KEYS}"),
    ] = None,
    imports: Imports = None,
    json: Json = False,
) -> None:
    """List the environments, describe one, or check one of your own.

    A description holds the spaces, the episode limit, whether a run resumes exactly, and how to train on it. A check
    says in sentences what is wrong or slow, and exits with 7 when something is wrong.
    """
    from flowrl.config import recipe
    from flowrl.contracts import user_code
    from flowrl.envs import descriptions
    from flowrl.experiments import environment_check

    import_code(imports)
    recipes = recipe.shipped_by_environment()
    if id is None:
        if check or options:
            raise UsageError(
                f"envs {'--check' if check else '--set'} needs an environment: flowrl envs my_env.py:MyEnv --check."
            )
        rows = [row | {"recipe": recipes.get(row["id"], "")} for row in descriptions.catalogue()]
        if json:
            print_json(rows)
        else:
            lines = [[row["id"], row["episode"], row["recipe"], _origin(row)] for row in rows]
            print_table(["id", "steps", "recipe", "origin"], lines, numbers=("steps",))
        next_command("flowrl envs", descriptions.EXAMPLE)
        return
    user_code.name_code(*([id] if user_code.is_code(id) else []))
    settings = environment_check.settings(id, options or ())
    changes = [f"env.{each.strip()}" for each in options or ()]
    again = [*repeated("--set", changes), *repeated("--import", imports)]
    if check:
        _check(environment_check.check(settings), id, again, json)
        return
    description = descriptions.describe(settings)
    train = _train(description.values, recipes.get(id), again)
    if json:
        print_json(description.values | {"train": train})
    else:
        print_facts(description.lines)
    next_command(train)


def _check(result: Any, id: str, again: list[str], json: bool) -> None:
    """Print the findings, and the command that trains on the environment `id`, with the options `again`.

    Raises ThresholdMissed when something is wrong.
    """
    wrong = [finding for finding in result.findings if finding.verdict == "wrong"]
    if json:
        print_json(asdict(result) | {"passed": not wrong})
    else:
        grades = {"ok": "ok", "wrong": "WRONG", "note": "note"}
        print_table(
            ["check", "result", "finding"],
            [[finding.check, grades[finding.verdict], finding.text] for finding in result.findings],
        )
    if wrong:
        say("mend it and check again, before you train on it.")
        raise ThresholdMissed(
            f"{id}: {len(wrong)} of {len(result.findings)} findings are wrong: "
            f"{', '.join(dict.fromkeys(finding.check for finding in wrong))}."
        )
    next_command(_similar(id, again, "pendulum.yaml"))


def _origin(row: dict[str, str]) -> str:
    return f"{row['origin']} ({row['note']})" if row["note"] else row["origin"]


def _train(description: dict[str, Any], recipe: str | None, again: list[str]) -> str:
    """Return the command that trains on it: with its recipe, or with that of a similar environment."""
    if recipe is not None:
        return shlex.join(["flowrl", "train", recipe, *again])
    small = description["origin"] in ("gymnasium classic_control", "your code")
    return _similar(description["id"], again, "pendulum.yaml" if small else "halfcheetah.yaml")


def _similar(id: str, again: list[str], recipe: str) -> str:
    return shlex.join(["flowrl", "train", recipe, "--set", f"env.id={id}", *again])
