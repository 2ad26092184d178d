from __future__ import annotations

import math

from flowrl.evaluation import pareto


def test_higher_is_better_by_hand() -> None:
    cost = [1, 2, 2, 3, 4, 4, math.nan]
    quality = [5, 7, 6, 7, 9, 9, 99]
    # 6 at 2 loses to 7 at 2, 7 at 3 to 7 at 2; the two equal points at 4 are both kept; nan never counts.
    assert pareto.front(cost, quality).tolist() == [True, True, False, False, True, True, False]
    # Lower is better: 5 at 1 beats everything.
    assert pareto.front(cost, quality, "lower").tolist() == [True] + [False] * 6
    assert pareto.front([], []).tolist() == []


def test_lower_is_better_by_hand() -> None:
    cost = [1, 2, 3, 4, 4, 2, math.nan, 0.5]
    error = [9, 5, 5, 1, 2, 5, 0, math.inf]
    # (3, 5) is beaten by (2, 5), (4, 2) by (4, 1); the equal (2, 5) are both kept
    assert pareto.front(cost, error, "lower").tolist() == [True, True, False, True, False, True, False, False]
