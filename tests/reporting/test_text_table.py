"""A table fits every width, breaks no word that fits, and loses no value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl.reporting import text_table

WORDS = st.lists(st.text("abcdefgh0123456789.[]%", min_size=1, max_size=12), max_size=6).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], set[int], int]:
    columns = draw(st.integers(1, 14))
    rows = draw(st.lists(st.lists(WORDS, min_size=columns, max_size=columns), max_size=4))
    header = [f"column{place}" for place in range(columns)]
    return header, rows, draw(st.sets(st.integers(0, columns - 1))), draw(st.integers(0, columns))


@given(tables(), st.integers(16, 130))
def test_no_line_exceeds_the_width_and_every_word_is_there(
    table: tuple[list[str], list[list[str]], set[int], int], width: int
) -> None:
    header, rows, right, keys = table
    lines = text_table.lines(header, rows, right, keys=keys, width=width)
    assert max(map(len, lines)) <= width
    printed = [word.removesuffix(":") for line in lines for word in line.split()]
    cells = [*header, *(cell for row in rows for cell in row)] if rows else header
    for word in (word for cell in cells for word in cell.split()):  # 12 characters at most: none has to be broken
        assert word in printed


@given(tables())
def test_without_a_width_a_row_is_a_line(table: tuple[list[str], list[list[str]], set[int], int]) -> None:
    header, rows, right, keys = table
    assert len(text_table.lines(header, rows, right, keys=keys)) == 2 + len(rows)


def test_columns_that_do_not_fit_are_a_second_table_with_the_columns_that_identify_a_row() -> None:
    header = ["sampler", "steps", "return", "mpjpe_mm", "arms_mm"]
    rows = [["euler", "10", "143.2", "18.5", "22.1"], ["heun", "5", "143.0", "18.6", "22.3"]]
    assert text_table.lines(header, rows, {1, 2, 3, 4}, keys=2, width=33) == [
        "sampler  steps  return  mpjpe_mm",
        "-------  -----  ------  --------",
        "euler       10   143.2      18.5",
        "heun         5   143.0      18.6",
        "",
        "sampler  steps  arms_mm",
        "-------  -----  -------",
        "euler       10     22.1",
        "heun         5     22.3",
    ]
    assert text_table.lines(header, rows[:1], {1, 2, 3, 4}, keys=2, width=33)[4:] == ["arms_mm", "-------", "   22.1"]


def test_where_no_table_fits_a_row_is_a_paragraph() -> None:
    rows = [["walker", "143.2 [140.1, 146.0]"], ["", ""]]
    assert text_table.lines(["task", "mean return"], rows, {1}, width=20) == [
        "task: walker",
        "mean return: 143.2",
        "  [140.1, 146.0]",
        "",
        "task:",
        "mean return:",
    ]


def test_a_word_that_is_longer_than_the_line_is_broken_and_complete() -> None:
    path = "/" + "x" * 90
    lines = text_table.lines(["state", "found"], [["ok", path]], width=40)
    assert "".join(line.split()[-1] for line in lines[2:]) == path
    assert max(map(len, lines)) == 40


@pytest.mark.parametrize("width", [20, 40, 80])
def test_facts_fit_the_width(width: int) -> None:
    pairs = [("network", "4 layers of 32 units each, with a time feature"), ("a name that is long", "a/" + "b" * 60)]
    lines = list(text_table.facts(pairs, indent="  ", width=width))
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()).replace(":", "") == "".join("".join(map("".join, pairs)).split())
