"""A comparison on a terminal: the content of the page, in tables that fit the width."""

from __future__ import annotations

from flowrl.experiments.comparison.results import Comparison
from flowrl.experiments.comparison.tables import ResultTable, introduction, sections, title
from flowrl.reporting import text_table


def screen(comparison: Comparison, width: int) -> str:
    """Render the comparison as plain text in lines of at most `width` characters."""
    parts = [text_table.paragraph(title(comparison), width), text_table.paragraph(introduction(comparison), width)]
    for section in sections(comparison, compact=True):
        first, *others = (_block(block, width) for block in section.blocks)
        parts += [f"{text_table.paragraph(f'{section.heading}:', width)}\n{first}", *others]
    return "\n\n".join(parts) + "\n"


def _block(block: str | list[str] | ResultTable, width: int) -> str:
    if isinstance(block, ResultTable):
        return "\n".join(_table(block, width))
    if isinstance(block, str):
        return text_table.paragraph(block, width)
    return "\n".join(text_table.paragraph(f"- {line}", width, "  ") for line in block)


def _table(table: ResultTable, width: int) -> list[str]:
    texts = len(table.header) - table.numbers
    numbers, grouped = range(texts, len(table.header)), table.header[0] == "task"
    return text_table.lines(table.header, table.rows, numbers, keys=texts, width=width, grouped=grouped)
