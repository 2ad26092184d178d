"""The comparison that tests of exact resume and of processes rely on."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from tests.equality import difference

NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (0.0, -0.0, "at: 0.0 and -0.0"),
        (1, 1.0, "at: int and float"),
        (1, True, "at: int and bool"),
        ({"a": 1}, OrderedDict(a=1), "at: dict and OrderedDict"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "at: keys ['a', 'b'] and ['b', 'a']"),
        ([1, 2], [1], "at: lengths 2 and 1"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "at.a[1].b: 2 and 3"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "at"),
        (torch.zeros(2), torch.zeros(1, 2), "at"),
        (torch.tensor([0.0]), torch.tensor([-0.0]), "at"),
    ],
)
def test_every_difference_is_found_and_named(one: Any, other: Any, where: str) -> None:
    assert difference(one, other, at="at") == where
    assert difference(other, one, at="at")


def test_what_is_equal_is_not_different() -> None:
    one = {"a": [1, NAN, torch.tensor([NAN, -0.0])], "b": {"seconds": 1.0}}
    other = {"a": [1, NAN, torch.tensor([NAN, -0.0])], "b": {"seconds": 2.0}}
    assert difference(one, other, but=("seconds",)) == ""
    assert difference(one, other) == ".b.seconds: 1.0 and 2.0"
