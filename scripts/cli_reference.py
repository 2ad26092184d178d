"""Write docs/reference/cli.md: every command of flowrl with its arguments and options, from the command line itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer

from flowrl.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
HEAD = """# Commands

What `flowrl COMMAND --help` prints. Results go to stdout and progress to stderr; `--json` makes stdout one JSON
document. A run folder may be given wherever a checkpoint is expected.
[Troubleshooting](../guide/faq.md) explains the exit codes.

This page is written by `python scripts/cli_reference.py`.
"""


def page() -> str:
    """Return the page."""
    group = typer.main.get_command(app)
    return "\n".join([HEAD, *(section(name, command) for name, command in commands(group, "flowrl"))])


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the command of each command in `group`, those of nested groups after it."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")


def section(path: str, command: Any) -> str:
    """Return the section of one command: its text, how it is called, and tables of arguments and options."""
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(part for part in command.collect_usage_pieces(context) if part)
    parts = [f"## {path}", "", cleandoc(command.help or ""), "", "```text", f"{path} {usage}", "```"]
    parts += ["", command.epilog]
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        parts += table(kind, [record for record in records if record is not None])
    return "\n".join(parts) + "\n"


def table(kind: str, rows: list[tuple[str, str]]) -> list[str]:
    """Return the lines of a table of parameters: (name, meaning) as in --help."""
    lines = [f"| `{_cell(name)}` | {_cell(meaning)} |" for name, meaning in rows]
    return ["", f"| {kind} | meaning |", "|---|---|", *lines] if lines else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", " or ")  # no escape works in all renderers


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE, file=sys.stderr)
