"""The state of environments in a checkpoint is checked before it is put into an environment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.envs import factory, saved_state
from flowrl.envs.settings import EnvSettings
from flowrl.envs.state_encoding import Encoder, as_tensors

NATIVE = ["flowrl/GridWorld-v0", "flowrl/CheetahRun-v0", "flowrl/FingerSpin-v0", "HalfCheetah-v5"]


def state_after(id: str, steps: int, mode: str = "auto") -> Any:
    env = factory.make(EnvSettings.model_validate({"id": id, "count": 3, "mode": mode, "threads": 1}))
    try:
        if steps:
            env.reset(0)
        for _ in range(steps):
            env.step(torch.ones(3, env.action_size))
        return env.state()["envs"]
    finally:
        env.close()


@pytest.mark.parametrize("id", NATIVE)
def test_a_state_is_like_that_of_new_environments_but_in_its_numbers(id: str) -> None:
    saved, fresh = state_after(id, 3), state_after(id, 0)
    saved_state.check(saved, 3)
    saved_state.check_alike(saved, fresh)
    array = next(value for _, value in saved["value"] if value["kind"] == "array") if "Grid" in id else None
    if array is not None:
        array["value"] = array["value"][:1]  # which would be copied into every row
        with pytest.raises(ValueError, match=r"its key 'env\.envs\.cells' is \(1, 2\) int64, not \(3, 2\) int64"):
            saved_state.check_alike(saved, fresh)


def encoded(value: Any) -> Any:
    return as_tensors(Encoder().encode(value))


def of_kind(tree: Any, kind: str) -> Any:
    """The first dict of a `kind` in an encoded value."""
    if isinstance(tree, dict) and tree.get("kind") == kind:
        return tree
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for item in inner if (found := of_kind(item, kind)) is not None), None)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.Philox, np.random.PCG64, np.random.SFC64])
def test_a_generator_that_would_read_beyond_its_memory_is_refused(bits: Callable[[int], Any]) -> None:
    """NumPy takes any position: with 10**9 MT19937 reads 4 GB beyond its numbers."""
    state = encoded({"random": np.random.Generator(bits(1))})
    saved_state.check(state, 3)
    name = bits(1).state["bit_generator"]
    pairs = of_kind(state, name)["value"]["value"]
    for pair in pairs:
        if pair[0] == "buffer_pos":
            pair[1] = -1
        if pair[0] == "state" and name == "MT19937":
            next(inner for inner in pair[1]["value"] if inner[0] == "pos")[1] = 10**9
        elif pair[0] == "state" and name in ("PCG64", "SFC64"):
            pair[1] = "x"
    with pytest.raises(ValueError, match=f"random' is not the state of a {name} generator"):
        saved_state.check(state, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("layers"), "env.envs.1' has no list of layers"),
        (lambda state: state["layers"].append(3), "is no dict of attributes"),
        (lambda state: state["layers"][0].update(__class__=1), "__class__' is no attribute that holds a state"),
        (lambda state: state["layers"][0].update(env=1), ".env' is no attribute that holds a state"),
        (lambda state: state["layers"][2].update(x={"kind": "array", "number": 1, "value": 2}), "x' holds no array"),
        (lambda state: state["layers"][2].update(x={"kind": "code", "number": 1, "value": 2}), "of the kind 'code'"),
        (lambda state: state["layers"][2].update(x={"kind": "dict", "number": 1, "value": [1]}), "x' holds no pairs"),
        (lambda state: state["layers"][2].update(x=[1]), "x' is not an encoded value"),
        (lambda state: state.update(integration=1), "integration' is not a tensor"),
    ],
)
def test_a_state_of_another_form_is_refused(change: Callable[[Any], Any], said: str) -> None:
    states = copy.deepcopy(SYNC)
    saved_state.check(states, 3)
    change(states[1])
    with pytest.raises(ValueError, match=r"^its key 'env\.envs\.1") as caught:
        saved_state.check(states, 3)
    assert said in str(caught.value)


def test_every_environment_has_a_state_where_they_are_stepped_one_by_one() -> None:
    with pytest.raises(ValueError, match=r"its key 'env\.envs\.0' has no list of layers"):
        saved_state.check([None] * 3, 3)
    with pytest.raises(ValueError, match=r"'env\.envs' has the states of 3 environments: expected 4"):
        saved_state.check(SYNC, 4)
    saved_state.check([None, *SYNC[1:]], 3, "env.statistics", gaps=True)


SYNC = state_after("Pendulum-v1", 2, "sync")
