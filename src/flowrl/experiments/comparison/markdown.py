"""A comparison as a Markdown page."""

from __future__ import annotations

from flowrl.experiments.comparison.results import Comparison
from flowrl.experiments.comparison.tables import ResultTable, introduction, sections, title


def page(comparison: Comparison) -> str:
    """Render the comparison as a Markdown page."""
    parts = [f"# {title(comparison)}", introduction(comparison)]
    for section in sections(comparison, compact=False):
        parts += [f"## {section.heading}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: str | list[str] | ResultTable) -> str:
    if isinstance(block, ResultTable):
        return _table(block)
    return block if isinstance(block, str) else "\n".join(f"- {line}" for line in block)


def _table(table: ResultTable) -> str:
    """A Markdown table whose columns are aligned in the text too."""
    header = table.header
    widths = [max(len(row[column]) for row in [header, *table.rows]) for column in range(len(header))]
    right = [column >= len(header) - table.numbers for column in range(len(header))]
    rule = ["-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)]
    lines = []
    for row in [header, rule, *table.rows]:
        cells = zip(row, widths, right, strict=True)
        lines.append("| " + " | ".join(f"{text:{'>' if r else '<'}{width}}" for text, width, r in cells) + " |")
    return "\n".join(lines)
