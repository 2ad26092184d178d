"""The processes that tests start."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.other_process import Fork


def sleeping() -> None:
    time.sleep(60)


def test_a_process_that_does_not_end_is_killed_and_says_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"still running: (?s:.*)in sleeping"):
        Fork(tmp_path, sleeping).finish(0.5)
