"""Tables of text that fit the width of a terminal, so that no cell is cut and no word is broken.

A table that is too wide is laid out differently, in this order: the last column is wrapped between words; the columns
are divided into several tables below each other, each of which begins with the columns that identify a row; each row
becomes a paragraph of lines "name: value". Every value is printed in each of these layouts.
"""

# Not by rich: importing it takes 0.1 s, a third of the time of a quick command, and it breaks words.

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

GAP = "  "  # between columns
NARROWEST = 24  # characters: a column with less space is not wrapped


@dataclass(frozen=True)
class TextColumn:
    """A column: its name, its cells, whether they are aligned to the right, and its width in characters."""

    name: str
    cells: tuple[str, ...]
    right: bool
    width: int

    @classmethod
    def of(cls, name: str, cells: Sequence[str], right: bool) -> TextColumn:
        """Create a column that is as wide as its widest text."""
        return cls(name, tuple(cells), right, max(1, *map(len, [name, *cells])))

    @property
    def longest_word(self) -> int:
        """Characters of the longest word, the least width at which none is broken; all of it for numbers."""
        if self.right:
            return self.width
        return max((len(word) for text in (self.name, *self.cells) for word in text.split()), default=1)


def lines(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    *,
    keys: int = 1,
    width: int | None = None,
    grouped: bool = False,
) -> list[str]:
    """Lay out a table with a rule below its header in lines of at most `width` characters; None: without a limit.

    `right` are the places of the columns that are aligned to the right, such as numbers; these are never wrapped. The
    first `keys` columns identify a row. With `grouped`, consecutive rows whose first cell is the same show it once.
    """
    texts = zip(*rows, strict=True) if rows else ((),) * len(header)
    columns = [
        TextColumn.of(name, cells, place in right)
        for place, (name, cells) in enumerate(zip(header, texts, strict=True))
    ]
    if width is None or _width(columns) <= width:
        return list(_grid(columns, grouped))
    identity = columns[: min(keys, len(columns) - 1) if len(rows) > 1 else 0]
    if (wrapped := _last_wrapped(columns, width, _width(identity))) is not None:
        return list(_grid(wrapped, grouped))
    if (blocks := _blocks(identity, columns[len(identity) :], width)) is not None:
        tables = ["\n".join(_grid(block, grouped)) for block in blocks]
        return "\n\n".join(tables).split("\n")
    return list(_records(columns, width))


def facts(pairs: Sequence[tuple[str, str]], *, indent: str = "", width: int | None = None) -> Iterator[str]:
    """Yield the lines 'name  value', the values below each other and wrapped; without a `width` they are not."""
    if not pairs:
        return
    columns = [TextColumn.of("", cells, False) for cells in zip(*pairs, strict=True)]
    room = None if width is None else width - len(indent)
    if room is not None and _width(columns) > room:
        if room - columns[0].width - len(GAP) < NARROWEST:
            yield from (indent + line for line in _records_of(pairs, room))
            return
        columns[1] = replace(columns[1], width=room - columns[0].width - len(GAP))
    for row in range(len(pairs)):
        yield from ((indent + line).rstrip() for line in _row(columns, [column.cells[row] for column in columns]))


def paragraph(text: str, width: int | None, indent: str = "") -> str:
    """Wrap `text` between words, below its beginning by `indent`; without a `width` it is one line."""
    return text if width is None else "\n".join(_wrap(text, width, indent))


# --- layouts --------------------------------------------------------------------------------------


def _width(columns: Sequence[TextColumn]) -> int:
    return sum(column.width for column in columns) + len(GAP) * max(0, len(columns) - 1)


def _last_wrapped(columns: list[TextColumn], width: int, identity: int) -> list[TextColumn] | None:
    """Narrow the last column to what is left of `width`; None where that is too little or breaks a word in vain.

    `identity` is the width of the columns that identify a row: a word longer than what they leave breaks anyhow.
    """
    *others, last = columns
    room = width - _width(others) - len(GAP) * bool(others)
    unavoidable = last.longest_word > width - identity - len(GAP)
    if last.right or room < NARROWEST or (last.longest_word > room and not unavoidable):
        return None
    return [*others, replace(last, width=room)]


def _blocks(identity: list[TextColumn], others: Sequence[TextColumn], width: int) -> list[list[TextColumn]] | None:
    """Divide the columns into blocks that fit, each with those that identify a row; None where they cannot."""
    blocks: list[list[TextColumn]] = []
    room = width - _width(identity) - len(GAP) * bool(identity)
    for column in others:
        if blocks and _width([*blocks[-1], column]) <= width:
            blocks[-1].append(column)
        elif column.width <= room:
            blocks.append([*identity, column])
        elif column.longest_word <= room and room >= NARROWEST:
            blocks.append([*identity, replace(column, width=room)])
        else:
            return None
    return blocks


def _grid(columns: Sequence[TextColumn], grouped: bool) -> Iterator[str]:
    yield from _row(columns, [column.name for column in columns])
    yield GAP.join("-" * column.width for column in columns)
    previous = None
    for first, *others in zip(*(column.cells for column in columns), strict=True):
        yield from _row(columns, ["" if grouped and first == previous else first, *others])
        previous = first


def _row(columns: Sequence[TextColumn], cells: Sequence[str]) -> Iterator[str]:
    """Yield the lines of one row, several where a cell is wrapped."""
    pieces = [_wrap(text, column.width) for column, text in zip(columns, cells, strict=True)]
    for place in range(max(map(len, pieces))):
        texts = [wrapped[place] if place < len(wrapped) else "" for wrapped in pieces]
        aligned = [
            text.rjust(column.width) if column.right else text.ljust(column.width)
            for text, column in zip(texts, columns, strict=True)
        ]
        yield GAP.join(aligned).rstrip()


def _records(columns: Sequence[TextColumn], width: int) -> Iterator[str]:
    """Yield each row as a paragraph of lines 'name: value'."""
    names = [column.name for column in columns]
    for place, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if place:
            yield ""
        yield from _records_of(list(zip(names, cells, strict=True)), width)


def _records_of(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    for name, value in pairs:
        yield from _wrap(f"{name}: {value}".rstrip() if name else value, width, GAP)


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Wrap `text` between words; a word is broken only where it is longer than the line."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
