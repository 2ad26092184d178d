"""`env.wrappers`, `env.history`, `env.flatten`, and the order in which observations are flattened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from pydantic import ValidationError

from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.envs import factory
from flowrl.envs.adapter import Adapter
from flowrl.envs.observations import layout
from flowrl.envs.settings import EnvSettings
from flowrl.envs.state_capture import layers

ID = "flowrl-test/Counting-v0"
WRAPPER = """
import gymnasium


class Doubled(gymnasium.ObservationWrapper):
    def __init__(self, env, factor=2):
        super().__init__(env)
        self.factor = factor

    def observation(self, observation):
        return self.factor * observation


def broken(env):
    return 3
"""


class Counting(gymnasium.Env[Any, Any]):
    """Environment whose observation is (100 * episode + step, 1); an episode has 3 steps."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.episode, self.t = 0, 0

    def see(self) -> Any:
        return np.array([100 * self.episode + self.t, 1], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.see(), 0.0, False, self.t == 3, {}


class Pictures(Counting):
    observation_space = spaces.Dict(camera=spaces.Box(0, 255, (8, 9, 3), np.uint8), speed=spaces.Box(-1, 1, (1,)))

    def see(self) -> Any:
        return {"camera": np.full((8, 9, 3), self.t, np.uint8), "speed": np.zeros(1, np.float32)}


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(WRAPPER)
    gymnasium.register(ID, Counting)
    gymnasium.register("flowrl-test/Pictures-v0", Pictures)
    paths = list(sys.path)
    with user_code.naming_apart():
        yield
    sys.path[:] = paths
    gymnasium.registry.pop(ID)
    gymnasium.registry.pop("flowrl-test/Pictures-v0")


def make(*wrappers: Any, id: str = ID, count: int = 1, **settings: Any) -> Adapter:
    return factory.make(EnvSettings(id=id, count=count, wrappers=list(wrappers), **settings))


def test_wrappers_are_put_around_in_order_the_first_innermost() -> None:
    user_code.name_code("mine.py")
    twice = make({"FrameStackObservation": {"stack_size": 2}}, {"mine.py:Doubled": {"factor": 3}}, "FlattenObservation")
    inner: Any = twice._envs
    names = [type(layer).__name__ for layer in layers(inner.envs[0])]
    assert names == [
        "GuardedEnv",
        "FlattenObservation",
        "Doubled",
        "FrameStackObservation",
        "OrderEnforcing",
        "Counting",
    ]
    assert twice.reset(0).tolist() == [[300, 3, 300, 3]]
    assert twice.step(torch.zeros(1, 1)).obs.tolist() == [[300, 3, 303, 3]]


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (
            "FlatenObservation",
            "no wrapper 'FlatenObservation' in gymnasium.wrappers. Did you mean 'FlattenObservation'?",
        ),
        ("FrameStack", "Did you mean 'FrameStackObservation'?"),
        ("Autoreset", "Autoreset cannot be used: flowrl restarts episodes itself"),
        ("FrameStackObservation", "'stack_size'"),
        ({"FrameStackObservation": {"size": 3}}, "It takes stack_size, padding_type"),
        ("mine.py:Doubled", "only when you name it: --import mine.py"),
        ("own.py:broken", "own.py:broken returned int, not a gymnasium.Env"),
        ("own.py", "names no wrapper: write own.py:Name"),
        ("DiscretizeAction", "cannot be put around"),
    ],
)
def test_a_wrapper_that_cannot_be_used_is_explained(wrapper: Any, said: str) -> None:
    Path("own.py").write_text(WRAPPER)
    user_code.name_code("own.py")
    with pytest.raises(UsageError) as caught:
        make(wrapper)
    assert said in str(caught.value)
    assert "env.wrappers" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapper", [3, {}, {"A": {}, "B": {}}, {"A": 3}, ""])
def test_the_form_of_a_wrapper_is_checked(wrapper: Any) -> None:
    with pytest.raises(ValidationError, match="a wrapper is a name"):
        EnvSettings(id=ID, wrappers=[wrapper])


def test_what_is_wrapped_is_stepped_one_by_one() -> None:
    """Wherever flowrl would step it natively; and where that would lose something, it is refused."""
    for id in ("Hopper-v5", "flowrl/PointMass-v0"):
        assert make(id=id).native and not make("FlattenObservation", id=id).native
        with pytest.raises(UsageError, match=r"env\.mode=batch: wrappers"):
            make("FlattenObservation", id=id, mode="batch")
    with pytest.raises(UsageError, match=r"env\.wrappers: an environment in a wrapper does not report"):
        make("FlattenObservation", id="flowrl/HumanoidTrack-v0")


HISTORIES = [(ID, {}), ("flowrl/PointMass-v0", {}), ("Hopper-v5", {}), ("Hopper-v5", {"mode": "sync"})]


@pytest.mark.parametrize(("id", "settings"), HISTORIES)
def test_history_is_the_last_observations_of_the_episode(id: str, settings: dict[str, Any]) -> None:
    """Against the same environment without it, over several episodes: exactly."""
    options = {} if id == ID else {"max_episode_steps": 4}
    plain = make(id=id, count=2, options=options, **settings)
    stacked = make(id=id, count=2, history=3, options=options, **settings)
    size = plain.observation_size
    assert stacked.observation_size == 3 * size and stacked.native is plain.native
    rows = [[row] * 3 for row in plain.reset(0)]
    assert torch.equal(stacked.reset(0), torch.stack([torch.cat(row) for row in rows]))
    generator = torch.manual_seed(0)
    for _ in range(11):
        action = torch.rand(2, plain.action_size, generator=generator) * 2 - 1
        one, many = plain.step(action), stacked.step(action)
        for row in range(2):
            led_to = [*rows[row][1:], one.successor[row]]
            ended = bool(one.terminated[row] | one.truncated[row])
            rows[row] = [one.obs[row]] * 3 if ended else led_to
            assert torch.equal(many.successor[row], torch.cat(led_to))
            assert torch.equal(many.obs[row], torch.cat(rows[row]))
    plain.close()
    stacked.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"history": 3},
        {"history": 3, "mode": "async"},
        {"id": "flowrl/PointMass-v0", "history": 3},
        {"wrappers": [{"FrameStackObservation": {"stack_size": 3}}, "FlattenObservation"]},
        {"wrappers": ["NormalizeObservation"], "history": 2},
        {"wrappers": [{"DelayObservation": {"delay": 2}}]},
    ],
    ids=str,
)
def test_it_resumes_exactly_in_the_middle_of_an_episode(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    made = [factory.make(EnvSettings(**{"id": ID, "count": 2} | settings)) for _ in range(2)]
    actions = torch.rand(12, 2, made[0].action_size, generator=torch.manual_seed(0))
    made[0].reset(1)
    for action in actions[:5]:
        made[0].step(action)
    assert made[0].exact_resume
    made[1].restore(made[0].state())
    assert torch.equal(made[0].obs, made[1].obs)
    for action in actions[5:]:
        one, other = (env.step(action) for env in made)
        assert torch.equal(one.obs, other.obs) and torch.equal(one.successor, other.successor)
    for env in made:
        env.close()


def test_what_is_hidden_from_a_policy_is_hidden_in_every_observation_of_the_history() -> None:
    masks = [make(id="flowrl/HumanoidTrack-v0", goal="root", history=history).policy_mask for history in (1, 2)]
    assert masks[0] is not None and masks[1] is not None
    assert torch.equal(masks[1], torch.cat([masks[0], masks[0]]))


def test_an_image_is_refused_unless_it_is_to_be_flattened() -> None:
    with pytest.raises(UsageError, match=r"an image, 8 x 9 x 3 uint8, .* env\.flatten=true .* 216 of them"):
        make(id="flowrl-test/Pictures-v0")
    assert make(id="flowrl-test/Pictures-v0", flatten=True).observation_size == 8 * 9 * 3 + 1


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (spaces.Box(0, 255, (84, 84), np.uint8), True),
        (spaces.Box(0, 1, (3, 16, 16), np.float32), True),
        (spaces.Box(-1, 1, (4, 17), np.float64), False),  # four observations, or the joints of four legs
        (spaces.Box(0, 255, (128,), np.uint8), False),  # the memory of a game
    ],
)
def test_what_an_image_is(space: spaces.Box, image: bool) -> None:
    from flowrl.envs.refusals import is_image

    assert is_image(space) is image


def test_the_order_of_a_flattened_observation_is_that_of_gymnasium() -> None:
    space = spaces.Dict(
        z=spaces.Discrete(3),
        a=spaces.Tuple((spaces.Box(-1, 1, (2, 2)), spaces.MultiDiscrete([2, 3]))),
        b=spaces.MultiBinary(2),
    )
    parts = layout(space)
    assert [(part.name, part.start, part.size) for part in parts] == [
        ("z", 0, 3), ("a[0]", 3, 4), ("a[1]", 7, 5), ("b", 12, 2),
    ]  # fmt: skip
    value = space.sample()
    flat = spaces.flatten(space, value)
    np.testing.assert_array_equal(flat[3:7], value["a"][0].reshape(-1))
    np.testing.assert_array_equal(flat[12:14], value["b"])
    assert flat[value["z"]] == 1
    assert layout(spaces.Box(-1, 1, (3,))) == []


def test_the_order_is_said_when_a_run_begins() -> None:
    (note,) = make(id="flowrl-test/Pictures-v0", flatten=True).notes()
    assert note == "flowrl-test/Pictures-v0: its Dict observation is flattened to 217 numbers: camera 0-215, speed 216."
