"""Attributes of any kind are saved and restored, or refused; a forged state cannot reach beyond them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.envs.simulation.attributes import NotSaved, Reader, Writer


class Holder:
    """An object whose attributes are saved."""

    def method(self) -> None: ...


@dataclass
class Gait:
    """A user's own object in an attribute."""

    phase: float = 0.0
    feet: torch.Tensor = field(default_factory=lambda: torch.zeros(2))


def no_live(name: str) -> torch.Tensor:
    raise KeyError(name)


def copied(value: Any, present: Any = None) -> Any:
    """`value` after saving and restoring, where the new object has `present` in its place."""
    old, new = Holder(), Holder()
    old.value, new.value = value, present  # type: ignore[attr-defined]
    writer = Writer({})
    encoded = writer.attributes(old, vars(old))
    Reader(no_live, writer.memory).put(new, encoded)
    return new.value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 0.1, "text", float("inf"), (), (1, "a", None), {"a": [1, {2: 3.0}]}, {1, 2}, frozenset({"x"})),
        *(deque([1, 2], maxlen=3), deque([1]), np.float32(2.5), np.int64(7)),
    ],
    ids=repr,
)
def test_plain_values_and_containers_come_back_in_their_type(value: Any) -> None:
    found = copied(value)
    assert found == value and type(found) is type(value)
    assert getattr(found, "maxlen", None) == getattr(value, "maxlen", None)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_come_back_in_their_type_and_layout(dtype: torch.dtype) -> None:
    for value in (
        torch.arange(6).reshape(2, 3).to(dtype),
        torch.arange(6).to(dtype).reshape(2, 3).T,
        torch.empty(0, 3),
    ):
        found = copied(value)
        assert torch.equal(found, value) and (found.dtype, found.stride()) == (value.dtype, value.stride())


def test_tensors_that_shared_memory_share_it_afterwards() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    found = copied({"row": base[1], "base": base, "same": base, "other": base.clone()})
    found["base"][1, 2] = 99
    assert found["row"][2] == 99 and found["same"] is found["base"] and found["other"][1, 2] == 6
    assert base[1, 2] == 6


def test_views_of_the_simulation_stay_views_of_it() -> None:
    mine, theirs = torch.zeros(3, 5), torch.zeros(3, 5)
    old, new = Holder(), Holder()
    old.value = mine[:, 2]  # type: ignore[attr-defined]
    writer = Writer({"data qpos": mine})
    encoded = writer.attributes(old, vars(old))
    assert writer.memory == []
    Reader({"data qpos": theirs}.__getitem__, []).put(new, encoded)
    theirs[1, 2] = 4
    assert new.value.tolist() == [0, 4, 0]  # type: ignore[attr-defined]


def test_objects_of_the_user_are_filled_in_place() -> None:
    present = Gait()
    found = copied(Gait(0.5, torch.ones(2)), present)
    assert found is present and found.phase == 0.5 and found.feet.tolist() == [1, 1]
    with pytest.raises(ValueError, match="'object' cannot be restored"):
        copied(Gait())


def test_an_object_that_refers_to_its_owner_is_saved_once() -> None:
    old, new = Holder(), Holder()
    for holder, level in ((old, 2.0), (new, 0.0)):
        holder.gait = Gait(level)  # type: ignore[attr-defined]
        holder.gait.owner = holder  # type: ignore[attr-defined]
    writer = Writer({})
    encoded = writer.attributes(old, vars(old))
    Reader(no_live, writer.memory).put(new, encoded)
    assert new.gait.phase == 2.0 and new.gait.owner is new  # type: ignore[attr-defined]


def test_what_has_no_state_is_left_as_it_is() -> None:
    assert copied(print, "present") == "present"
    assert copied([torch.float32, 1, np], [None, 0, "module"]) == [None, 1, "module"]


@pytest.mark.parametrize(
    "make",
    [
        *(torch.Generator, lambda: np.random.default_rng(0), lambda: iter([1]), object, lambda: np.zeros((2, 2))[0]),
        *(lambda: np.array(["a"]), lambda: torch.ones(2, requires_grad=True), lambda: torch.ones(2, 2).to_sparse()),
        lambda: [{"deep": iter(())}],
    ],
)
def test_what_cannot_be_saved_is_refused_by_name(make: Callable[[], Any]) -> None:
    with pytest.raises(NotSaved, match=r"^Holder\.value"):
        copied(make())


@pytest.mark.parametrize(
    "encoded",
    [
        [["method", ["plain", 1]]],  # would replace a method
        [["__class__", ["plain", 1]]],
        [["a b", ["plain", 1]]],
        [["value", ["tensor", 0, "torch.float64", [100], [1], 0]]],  # beyond the memory
        [["value", ["tensor", 0, "torch.float64", [1], [1], 100]]],
        [["value", ["tensor", 7, "torch.float64", [1], [1], 0]]],
        [["value", ["tensor", 0, "torch.complex64", [1], [1], 0]]],
        [["value", ["code", "print(1)"]]],
    ],
)
def test_a_forged_state_is_refused(encoded: Any) -> None:
    memory = torch.zeros(16, dtype=torch.uint8)
    with pytest.raises((ValueError, RuntimeError, IndexError, KeyError)):
        Reader(no_live, [memory]).put(Holder(), encoded)
