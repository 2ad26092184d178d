"""A comparison on a terminal: the content of the page, in tables that fit the width."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table

from flowrl.experiments.comparison.results import Comparison
from flowrl.experiments.comparison.tables import ResultTable, introduction, sections, title


def screen(comparison: Comparison, width: int) -> str:
    """Render the comparison as plain text of at most `width` columns; a cell that is too wide is folded."""
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    parts: list[RenderableType] = [title(comparison), introduction(comparison)]
    for section in sections(comparison, compact=True):
        first, *others = map(_block, section.blocks)
        parts += [Group(f"{section.heading}:", first), *others]
    with console.capture() as capture:
        for part in parts:
            console.print(part)
            console.print()
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _block(block: str | list[str] | ResultTable) -> RenderableType:
    if isinstance(block, ResultTable):
        return _table(block)
    if isinstance(block, str):
        return block
    grid = Table.grid(padding=(0, 1))
    for line in block:
        grid.add_row("-", line)
    return grid


def _table(table: ResultTable) -> Table:
    """Render a table; a task is named in the first of its rows only."""
    rendered = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(table.header):
        right = place >= len(table.header) - table.numbers
        rendered.add_column(name, overflow="fold", justify="right" if right else "left")
    previous = ""
    for first, *others in table.rows:
        repeated = table.header[0] == "task" and first == previous
        rendered.add_row("" if repeated else first, *others)
        previous = first
    return rendered
