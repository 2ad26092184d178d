"""bench-latency proposes a row whose error is tolerable, says why, and never proposes the slowest."""

from __future__ import annotations

from typing import Any

import pytest

from flowrl.evaluation.statistics import wilson
from flowrl.experiments.latency_report import proposal


def document(rows: list[tuple[str, int | None, float, float | None]], own: tuple[str, int] | None) -> dict[str, Any]:
    keys = ("sampler", "steps", "p50_us", "endpoint_error")
    measured = [dict(zip(keys, row, strict=True)) | {"batch": batch} for batch in (1, 64) for row in rows]
    return {"networks": [{"network": "run", "own_sampler": own, "rows": measured}]}


HUMANOID = [("heun", 1, 200.0, 5.5), ("euler", 1, 100.0, 0.26), ("euler", 10, 900.0, 0.2), ("dopri5", None, 1e5, 1e-4)]


def test_the_fastest_row_within_the_error_of_the_training_is_proposed() -> None:
    found = proposal(document(HUMANOID, ("euler", 10)))
    assert found is not None
    assert found.reason == (
        "proposed: euler:10 (900 µs, error 0.2), the fastest whose error is at most 0.2, that of the sampler of the "
        "training"
    )
    assert found.row["batch"] == 1


def test_the_slowest_row_is_never_proposed() -> None:
    found = proposal(document(HUMANOID, None))
    assert found is not None
    assert found.reason == (
        "proposed: euler:10 (900 µs, error 0.2), the nearest of all but the slowest; the error of none is at most 0.1, "
        "a tenth of the actions' spread, so compare returns"
    )


def test_a_tenth_of_the_spread_is_tolerable_and_unknown_errors_are_left_out() -> None:
    found = proposal(document([("euler", 2, 50.0, None), ("euler", 4, 80.0, 0.09), ("rk4", 4, 90.0, 0.01)], ("rk4", 4)))
    assert found is not None
    assert (found.row["sampler"], found.row["steps"]) == ("euler", 4)
    assert proposal(document([("euler", 2, 50.0, None)], None)) is None


@pytest.mark.parametrize("trials", [1, 2, 7, 64, 100, 1000])
def test_the_interval_of_no_success_begins_at_zero_and_that_of_nothing_else_ends_at_one(trials: int) -> None:
    assert wilson(0, trials)[0] == 0.0
    assert wilson(trials, trials)[1] == 1.0
