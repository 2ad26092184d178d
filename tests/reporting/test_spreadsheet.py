"""Tables as CSV."""

from __future__ import annotations

from pathlib import Path

from flowrl.reporting import spreadsheet


def test_an_interval_is_two_columns_also_where_it_is_unknown(tmp_path: Path) -> None:
    rows = [
        {"motion": "gait:walk, slow", "success_ci95": [0.25, 1.0], "steps": 3},
        {"motion": "gait:step", "success_ci95": None, "steps": None},
    ]
    spreadsheet.write(rows, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "motion,success_ci95_low,success_ci95_high,steps",
        '"gait:walk, slow",0.25,1.0,3',
        "gait:step,,,",
    ]
