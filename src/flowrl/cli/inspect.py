"""`flowrl inspect CKPT`: verify a checkpoint and print its content."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Json, code_options
from flowrl.cli.output import next_command, print_facts, print_json, print_line, say


def inspect(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="A checkpoint, a run folder, or a name under runs/.")
    ],
    json: Json = False,
) -> None:
    """Check a checkpoint and print what it holds.

    Every byte is checked, no model is built and nothing in the file is run.
    """
    from flowrl.config import yaml_reader
    from flowrl.contracts import user_code
    from flowrl.experiments import code_record
    from flowrl.storage import inspection

    found = inspection.inspect(checkpoint)
    for line in code_record.changes({"code": found["code"] or {}}, Path(found["path"])):
        say(f"note: {line}")
    if json:
        print_json(found)
    else:
        for heading, facts in inspection.sections(found):
            print_facts(facts, heading)
            print()
        print("config")
        for line in yaml_reader.write(found["config"]).splitlines():
            print_line(f"  {line}")
    code = [user_code.found_near(word, Path(found["path"])) for word in code_options(found["config"])]
    next_command("flowrl eval", found["path"], *code)
