"""Only what a crash can leave in a metrics file is passed over: a last line without its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flowrl.contracts.errors import UsageError
from flowrl.reporting.jsonl import MOST_BYTES, MetricsFile, read


@pytest.mark.parametrize("torn", ['{"iteration":2,"retu', "[2]", "\x00\x00"])
def test_a_torn_line_is_passed_over_only_at_the_very_end(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"iteration":1}}\n{torn}')
    assert read(path) == [{"iteration": 1}]
    path.write_text(f'{{"iteration":1}}\n{torn}\n')  # it was written to its end, so it is damaged
    with pytest.raises(UsageError, match="line 2: not a JSON object"):
        read(path)
    path.write_text(f'{{"iteration":1}}\n{torn}\n{{"iteration":3}}')
    with pytest.raises(UsageError, match="line 2: not a JSON object"):
        read(path)


def test_a_binary_file_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(b"PK\x03\x04\x00\x00\x08\nrest\n")
    with pytest.raises(UsageError, match="is no text, so it is not a metrics file: name the run folder"):
        read(path)


LINE = b'{"iteration":1}\n'


@pytest.mark.parametrize("offset", [2**40, 2**62])
def test_an_offset_beyond_the_file_takes_no_memory(tmp_path: Path, offset: int) -> None:
    """A checkpoint may come from anyone."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINE)
    with closing(MetricsFile(path, offset)) as metrics:
        assert metrics.offset == len(LINE)


def test_more_than_the_most_that_is_read_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINE)
    os.truncate(path, MOST_BYTES + 1)  # sparse
    with pytest.raises(UsageError, match=r"larger than 200 MB, the most that is read\. Move it away"):
        MetricsFile(path, offset=2**62)
    assert path.stat().st_size == MOST_BYTES + 1
    with closing(MetricsFile(path, offset=len(LINE))) as metrics:  # the rest is cut off unread
        assert metrics.offset == len(LINE)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_metrics_that_are_no_file_are_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    make(path)
    with pytest.raises(UsageError, match=r"metrics\.jsonl is not a file\. Move it away"):
        MetricsFile(path, offset=16)
