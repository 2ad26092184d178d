"""Write docs/configuration.md: every key of a recipe, its default, its range and its effect."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flowrl.config import resume
from flowrl.config.policy_kinds import POLICY_KINDS
from flowrl.config.schema import ALGORITHMS, Config
from flowrl.config.suggestions import is_model, types_of
from flowrl.config.validation import written

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

A recipe is a YAML file with the keys below; what it leaves out has its default. `flowrl train RECIPE --dry-run` prints
everything resolved, and `--set key.path=value` sets one key. Root sections named `fpo`, `fpo++` and `ppo` hold keys
for one algorithm only, so that `--set algorithm=ppo` switches in place and `flowrl suite` compares each at its best.
Such a section wins over the recipe's other keys, these over the algorithm's preset, and `--set` over all.

The last column says what `flowrl train --resume RUN --set key=value` does: the key *acts* from the next update on, or
it is refused for the reason given there ([resume.md](resume.md)). A key without effect on the run's kind of policy is
refused too.

This page is written by `python scripts/configuration.py`.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD, table("Root", "", Config)]
    for name, field in Config.model_fields.items():
        for title, path, model in blocks(name, field):
            parts.append(table(title, path, model))
    parts.append(presets())
    return "\n".join(parts)


def blocks(path: str, field: FieldInfo) -> Iterator[tuple[str, str, type[BaseModel]]]:
    """The blocks of settings below `path`: their headings, paths and models."""
    if path == "policy":
        for name, kind in POLICY_KINDS.items():
            yield f"`policy`, of kind {name}", path, kind.settings
        return
    model = field.annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        yield f"`{path}`", path, model
        for name, inner in model.model_fields.items():
            yield from blocks(f"{path}.{name}", inner)


def table(title: str, path: str, model: type[BaseModel]) -> str:
    lines = [
        f"## {title}",
        "",
        (model.__doc__ or "").split("\n")[0],
        "",
        "| key | default | what it is | at resume |",
        "|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rule = at_resume(f"{path}.{name}" if path else name, field)
        lines.append(f"| `{name}` | {default(field)} | {limits(field)}{meaning} | {rule} |")
    return "\n".join(lines) + "\n"


def at_resume(key: str, field: FieldInfo) -> str:
    """'acts', 'refused: …', or '' for a block, whose keys have rules of their own."""
    if default(field) == "below" or any(map(is_model, types_of(field.annotation)[0])):
        return ""
    rule = resume.rule_of(tuple(key.split(".")))
    return "acts" if rule.changeable else f"refused: {rule.reason}"


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "below"
    return f"`{'null' if value is None else list(value) if isinstance(value, tuple) else value}`"


def limits(field: FieldInfo) -> str:
    """'one of …: ' or '> 0: '."""
    choices = [str(c) for c in literals(field.annotation)]
    if choices:
        return f"{', '.join(f'`{c}`' for c in choices)}. "
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"{sign} {number(getattr(each, name))}"
        for each in field.metadata
        for name, sign in signs.items()
        if hasattr(each, name)
    ]
    return f"{', '.join(bounds)}. " if bounds else ""


def number(value: float) -> str:
    """Write 1000000 as '1,000,000' and 1e9 as '1e9'."""
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    )


def literals(annotation: Any) -> list[str]:
    return [written(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def presets() -> str:
    lines = ["## Algorithms", "", "The preset of each `algorithm`, every part of which may be set separately:", ""]
    for name, preset in ALGORITHMS.items():
        lines.append(f"- `{name}`: " + ", ".join(f"`{key} = {value}`" for key, value in leaves(preset)))
    return "\n".join(lines) + "\n"


def leaves(block: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE, file=sys.stderr)
