"""Only what a crash can leave in a metrics file is passed over: a last line without its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowrl.contracts.errors import UsageError
from flowrl.reporting.jsonl import read


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
