"""An interrupted simulation continues bit for bit: no tolerance anywhere."""

from __future__ import annotations

import io
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from flowrl.contracts.protocols import Step
from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings
from flowrl.envs.state_capture import capture, model_checksum, reinstate
from flowrl.envs.state_encoding import Decoder, Encoder, Inexact, as_arrays, as_tensors

FIELDS = ("obs", "reward", "terminated", "truncated", "successor", "success")


def through_a_file(content: Any) -> Any:
    """`content` written and opened as a checkpoint is."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def equal(one: Step, other: Step) -> bool:
    return all(
        torch.equal(torch.nan_to_num(getattr(one, field), -1), torch.nan_to_num(getattr(other, field), -1))
        for field in FIELDS
    )


# 24 steps before the interruption, 60 after: with these limits every row ends episodes on both sides of it,
# and the interruption is in mid-episode.
CASES = [
    ("flowrl/GridWorld-v0", 7, {"max_steps": 9}),
    ("Pendulum-v1", 3, {"max_episode_steps": 19}),
    ("Hopper-v5", 3, {"max_episode_steps": 19}),
    ("Humanoid-v5", 2, {"max_episode_steps": 19}),
]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("id", "count", "options"), CASES, ids=[case[0] for case in CASES])
def test_interrupted_is_uninterrupted(id: str, count: int, options: dict[str, Any], mode: str) -> None:
    settings = EnvSettings(id=id, count=min(count, 2) if mode == "async" else count, mode=mode, options=options)
    through = make(settings)
    through.reset(seed=11)
    actions = torch.randn(84, through.count, through.action_size, generator=torch.manual_seed(0))
    for action in actions[:24]:
        through.step(action)
    state = through_a_file(through.state())
    resumed = make(settings)
    assert resumed.exact_resume and through.exact_resume
    assert torch.equal(resumed.restore(state), through.obs)
    ended = torch.zeros(through.count, dtype=torch.int64)
    for action in actions[24:]:
        one, other = through.step(action), resumed.step(action)
        assert equal(one, other)
        ended += one.terminated | one.truncated
    assert ended.min() >= 2  # the random generators were used again after the interruption
    through.close()
    resumed.close()


def test_a_state_can_be_restored_into_a_used_adapter_twice() -> None:
    adapter = make(EnvSettings(id="Hopper-v5", count=2, mode="sync"))
    adapter.reset(seed=1)
    actions = torch.randn(40, 2, 3, generator=torch.manual_seed(1))
    state = adapter.state()
    first = [adapter.step(action) for action in actions]
    adapter.restore(state)
    second = [adapter.step(action) for action in actions]
    adapter.close()
    assert all(equal(one, other) for one, other in zip(first, second, strict=True))


def test_humanoid_reads_fields_that_the_integration_state_lacks() -> None:
    """Why `derived` is kept: with zeros in its place the next step differs, through the reward and the observation."""
    env = gymnasium.make("Humanoid-v5")
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(17, dtype=np.float32))
    state = capture(env, model_checksum(env))
    _, truth, *_ = env.step(np.zeros(17, dtype=np.float32))
    state["derived"] = np.zeros_like(state["derived"])
    reinstate(env, state)
    _, without, *_ = env.step(np.zeros(17, dtype=np.float32))
    assert truth != without


def round_trip(value: Any) -> Any:
    return Decoder().decode(as_arrays(through_a_file(as_tensors(Encoder().encode(value)))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**127 + 1,
        -0.1,
        "wind",
        (1, (2.5, "x")),
        [1, [2]],
        {"a": 1, 3: [None]},
        deque([1, 2]),
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
    ],
    ids=repr,
)
def test_plain_values_come_back_with_their_types(value: Any) -> None:
    back = round_trip(value)
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("dtype", ["bool", "float16", "float64", "int64", "uint8", "uint32", "uint64"])
def test_arrays_come_back_with_their_types(dtype: str) -> None:
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    back = round_trip(array)
    assert back.dtype == array.dtype and (back == array).all()
    assert round_trip(np.array(2.5)).shape == ()


@pytest.mark.parametrize(
    "kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM]
)
def test_generators_continue(kind: Any) -> None:
    generator = np.random.Generator(kind(4))
    generator.normal(size=3)
    generator.integers(10, dtype=np.int32)  # leaves half a word behind
    back = round_trip(generator)
    assert back.normal(size=5).tolist() == generator.normal(size=5).tolist()
    assert back.integers(10, size=3, dtype=np.int32).tolist() == generator.integers(10, size=3, dtype=np.int32).tolist()


def test_what_was_one_object_stays_one() -> None:
    generator, array = np.random.default_rng(0), np.zeros(3)
    back = round_trip({"a": generator, "b": [generator], "c": array, "d": array})
    assert back["a"] is back["b"][0] and back["c"] is back["d"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (np.array(["a"]), "<U1"),
        (np.array([None]), "object"),
        ([{"deep": object()}], "object"),
    ],
)
def test_other_values_are_refused(value: Any, said: str) -> None:
    with pytest.raises(Inexact, match=said):
        Encoder().encode(value)


def test_a_deque_keeps_its_longest_length() -> None:
    """As in Gymnasium's FrameStackObservation."""
    back = round_trip(deque([1, 2], maxlen=2))
    back.append(3)
    assert back == deque([2, 3]) and back.maxlen == 2


def test_arrays_that_share_memory_are_refused() -> None:
    buffer = np.zeros(6)
    with pytest.raises(Inexact, match="shares its memory"):
        Encoder().encode([buffer, buffer[:3]])


class Opaque(gymnasium.Env[Any, Any]):
    """Counts steps in an object that cannot be captured."""

    observation_space = spaces.Box(-1e6, 1e6, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        self.world: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.world = iter(range(100))
        return self.np_random.normal(size=1).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        return np.full(1, next(self.world), dtype=np.float32), 0.0, False, False, {}


gymnasium.register("flowrl-test/Opaque-v0", Opaque)


def test_a_state_that_cannot_be_captured_is_said_and_the_episodes_restart() -> None:
    def opaque() -> Adapter:
        return make(EnvSettings(id="flowrl-test/Opaque-v0", count=2))

    adapter = opaque()
    assert adapter.exact_resume  # there is no world before the first reset
    adapter.reset(seed=0)
    assert not adapter.exact_resume
    assert adapter.inexact_because == "Opaque.world is or holds a range_iterator"
    for _ in range(3):
        adapter.step(torch.zeros(2, 1))
    state = through_a_file(adapter.state())
    assert state["envs"] is None
    first: list[Tensor] = [opaque().restore(state) for _ in range(2)]
    assert torch.equal(first[0], first[1])  # the same new start each time
    assert not torch.equal(first[0], opaque().reset(seed=0))  # and not the old one again


def test_a_mujoco_model_that_changes_is_noticed() -> None:
    env = gymnasium.make("Hopper-v5")
    before = model_checksum(env)
    env.reset(seed=0)
    capture(env, before)
    env.unwrapped.model.body_mass[1] *= 1.1  # type: ignore[attr-defined]
    with pytest.raises(Inexact, match="changes its MuJoCo model"):
        capture(env, before)


def test_a_state_of_other_settings_is_refused() -> None:
    from flowrl.contracts.errors import UsageError

    two, three = (make(EnvSettings(id="Pendulum-v1", count=count)) for count in (2, 3))
    two.reset(seed=0)
    with pytest.raises(UsageError, match="2 x Pendulum-v1, not of 3 x Pendulum-v1"):
        three.restore(two.state())
