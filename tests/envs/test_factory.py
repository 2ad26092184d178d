"""From an id to an environment: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from flowrl.envs import EnvSettings, make
from flowrl.errors import EnvironmentFailed, MissingDependency, UsageError


class Track(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, length: int = 3) -> None:
        self.length = length


class Mapping(gymnasium.Env[Any, Any]):
    """Spaces that flowrl does not support."""

    observation_space = spaces.Dict({"position": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Box(-1, 1, (1,))


class Whole(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(0, 9, (1,), np.int32)


def missing() -> Any:
    import a_package_that_is_not_there  # noqa: F401


gymnasium.register("flowrl-test/Track-v0", Track)
gymnasium.register("flowrl-test/Mapping-v0", Mapping)
gymnasium.register("flowrl-test/Whole-v0", Whole)
gymnasium.register("flowrl-test/Missing-v0", missing)


@pytest.mark.parametrize(
    ("id", "options", "error", "said"),
    [
        ("os:system", {}, UsageError, "import a module"),
        ("hopper-v5", {}, UsageError, "Did you mean 'Hopper-v5'"),
        ("Hopper", {}, UsageError, "Did you mean 'Hopper-v5'"),
        ("GridWorld-v0", {}, UsageError, "Did you mean 'flowrl/GridWorld-v0'"),
        ("CartPole-v1", {}, UsageError, "action space is Discrete"),
        ("flowrl-test/Mapping-v0", {}, UsageError, "observation space is Dict"),
        ("flowrl-test/Whole-v0", {}, UsageError, "int32"),
        ("flowrl-test/Track-v0", {"lenght": 3}, UsageError, "no option 'lenght'. Did you mean 'length'"),
        ("Hopper-v5", {"forward_reward": 1}, UsageError, "Did you mean 'forward_reward_weight'"),
        ("flowrl/GridWorld-v0", {"max_episode_steps": 3}, UsageError, "Did you mean 'max_steps'"),
        ("flowrl/GridWorld-v0", {"mode": "two_walks"}, UsageError, "Did you mean 'two_walls'"),
        ("Pendulum-v1", {"num_envs": 3}, UsageError, "'num_envs' is set by flowrl"),
        ("flowrl-test/Missing-v0", {}, MissingDependency, "a_package_that_is_not_there"),
        ("Hopper-v5", {"xml_file": "/no/such.xml"}, EnvironmentFailed, "/no/such.xml"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_refusals(id: str, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        make(EnvSettings(id=id, count=1, options=options))
    assert said in str(caught.value) and "\n" not in str(caught.value)
