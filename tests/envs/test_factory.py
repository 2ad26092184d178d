"""From an id to an environment: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from flowrl.contracts.errors import EnvironmentFailed, MissingDependency, UsageError
from flowrl.envs.factory import built, find, make, way
from flowrl.envs.gymnasium_mujoco.family import IDS
from flowrl.envs.humanoid.family import MotionSource
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.vector_env import TaskVectorEnv


class Track(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, length: int = 3) -> None:
        self.length = length


class Mapping(gymnasium.Env[Any, Any]):
    """A space that flowrl does not support: it has no fixed size."""

    observation_space = spaces.Dict({"path": spaces.Sequence(spaces.Box(-1, 1, (2,)))})
    action_space = spaces.Box(-1, 1, (1,))


class IntegerActions(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(0, 9, (1,), np.int32)


def missing() -> Any:
    import a_package_that_is_not_there  # noqa: F401


gymnasium.register("flowrl-test/Track-v0", Track)
gymnasium.register("flowrl-test/Mapping-v0", Mapping)
gymnasium.register("flowrl-test/IntegerActions-v0", IntegerActions)
gymnasium.register("flowrl-test/Missing-v0", missing)


@pytest.mark.parametrize(
    ("id", "options", "error", "said"),
    [
        ("os:system", {}, UsageError, "env.id is the module os. "),
        ("hopper-v5", {}, UsageError, "Did you mean 'Hopper-v5'"),
        ("Hopper", {}, UsageError, "Did you mean 'Hopper-v5'"),
        ("GridWorld-v0", {}, UsageError, "Did you mean 'flowrl/GridWorld-v0'"),
        ("CartPole-v1", {}, UsageError, "action space is Discrete"),
        ("flowrl-test/Mapping-v0", {}, UsageError, "observation space['path'] is Sequence"),
        ("flowrl-test/IntegerActions-v0", {}, UsageError, "int32"),
        ("flowrl-test/Track-v0", {"lenght": 3}, UsageError, "no option 'lenght'. Did you mean 'length'"),
        ("Hopper-v5", {"forward_reward": 1}, UsageError, "Did you mean 'forward_reward_weight'"),
        ("flowrl/GridWorld-v0", {"max_episode_steps": 3}, UsageError, "Did you mean 'max_steps'"),
        ("flowrl/GridWorld-v0", {"mode": [1, 2]}, UsageError, "env.options.mode: GridWorld has no mode [1, 2]."),
        ("flowrl/GridWorld-v0", {"max_steps": 0}, UsageError, "env.options.max_steps: GridWorld: max_steps must be"),
        ("GymV26Environment-v0", {"env_id": "os:X-v0"}, UsageError, "env.options.env_id 'os:X-v0'"),
        ("GymV21Environment-v0", {"env_id": "os:X-v0"}, UsageError, "would import"),
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


@pytest.mark.parametrize(
    ("id", "mode", "options", "native"),
    [
        ("Hopper-v5", "auto", {}, True),
        ("Hopper-v5", "batch", {}, True),
        ("Hopper-v5", "auto", {"max_episode_steps": 7}, True),
        ("Hopper-v5", "sync", {}, False),
        ("Hopper-v5", "auto", {"reset_noise_scale": 0.1}, False),
        ("Hopper-v5", "auto", {"max_episode_steps": -1}, False),  # no limit, in Gymnasium
        ("Hopper-v4", "auto", {}, False),
        ("Pendulum-v1", "auto", {}, False),
        ("flowrl/PointMass-v0", "auto", {}, True),
        ("flowrl/PointMass-v0", "sync", {}, True),  # as in the checkpoints from before there was a choice
        ("flowrl/GridWorld-v0", "batch", {"mode": "cshape"}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_flowrl_knows_itself_is_stepped_natively(
    id: str, mode: Any, options: dict[str, Any], native: bool
) -> None:
    adapter = make(EnvSettings(id=id, mode=mode, count=1, options=options))
    assert adapter.native is native
    adapter.close()


def test_the_time_limit_reaches_the_native_environments() -> None:
    adapter = make(EnvSettings(id="HalfCheetah-v5", count=2, options={"max_episode_steps": 3}))
    adapter.reset(seed=0)
    ends = [adapter.step(torch.zeros(2, 6)).truncated.tolist() for _ in range(4)]
    assert ends == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("Pendulum-v1", {}, f"flowrl does not know Pendulum-v1 itself, only {', '.join(IDS)}"),
        ("Hopper-v4", {}, "flowrl does not know Hopper-v4 itself"),
        ("Hopper-v5", {"reset_noise_scale": 0.1}, "not with env.options.reset_noise_scale"),
        ("Hopper-v5", {"max_episode_steps": 0}, "max_episode_steps must be a whole number"),
    ],
)
def test_batch_is_refused_with_a_reason(id: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(EnvSettings(id=id, mode="batch", options=options))
    assert said in str(caught.value)


def test_what_has_a_key_of_its_own_is_no_option() -> None:
    """The key would silently win."""
    for name, value in {"goal": "root", "motions": ["gait:step"], "threads": 1}.items():
        with pytest.raises(UsageError, match=rf"env\.options\.{name}: write env\.{name}"):
            make(EnvSettings(id="flowrl/HumanoidTrack-v0", count=1, options={name: value}))


def test_one_motion_is_a_list_of_one() -> None:
    assert EnvSettings(id="x", motions="gait:step").motions == ("gait:step",)  # type: ignore[arg-type]
    (source,) = EnvSettings(id="x", motions={"source": "a.npz", "weight": 2.0}).motions or ()  # type: ignore[arg-type]
    assert source == MotionSource(source="a.npz", weight=2.0)


def test_a_goal_that_is_hidden_from_the_policy_is_hidden_in_every_mode() -> None:
    """Gymnasium's async has no word for what an environment hides: the policy would see it all."""
    id = "flowrl/HumanoidTrack-v0"
    with pytest.raises(UsageError, match=r"env\.mode=async: .* Leave env\.mode out"):
        make(EnvSettings(id=id, mode="async", count=1, goal="root"))
    mask = make(EnvSettings(id=id, mode="sync", count=1, goal="root")).policy_mask
    assert mask is not None and int(mask.sum()) == 285


def test_pictures_are_gymnasiums() -> None:
    adapter = make(EnvSettings(id="Hopper-v5", count=1, mode="batch"), render_mode="rgb_array")
    assert not adapter.native
    adapter.close()


def test_a_native_id_with_another_registration_is_stepped_by_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("Hopper-v5", entry_point="gymnasium.envs.mujoco.hopper_v5:HopperEnv")
    monkeypatch.setitem(gymnasium.registry, "Hopper-v5", spec)
    for changed in ({"kwargs": {"healthy_reward": 0.0}}, {"entry_point": Track}):
        for name, value in changed.items():
            monkeypatch.setattr(spec, name, value)
        adapter = make(EnvSettings(id="Hopper-v5", count=1))
        assert not adapter.native
        adapter.close()
        monkeypatch.setattr(spec, "kwargs", {})


@pytest.mark.parametrize(("before", "after"), [("sync", "batch"), ("batch", "async")])
def test_a_state_is_not_restored_into_another_way_of_stepping(before: Any, after: Any) -> None:
    one, other = (make(EnvSettings(id="Hopper-v5", count=1, mode=mode)) for mode in (before, after))
    one.reset(seed=0)
    with pytest.raises(UsageError, match=r"resume with the env\.mode of before"):
        other.restore(one.state())
    other.close()


def test_what_an_evaluation_asks_for_reaches_who_can_do_it() -> None:
    """HumanoidTrack starts at the start of a motion then, and every environment takes the word."""
    track = EnvSettings(id="flowrl/HumanoidTrack-v0", motions=("gait:stand",), goal="root")
    env = make(track, count=2, evaluation=True)
    mask = env.policy_mask
    assert mask is not None and 0 < mask.sum() < len(mask)
    env.reset(seed=0)
    for _ in range(300):
        step = env.step(torch.zeros(2, env.action_size))
        if step.terminated.any():
            break
    ended = step.terminated | step.truncated
    assert ended.all()
    assert set(step.measures) >= {"alive_s", "strict_alive_s", "mpjpe_mm", "mpjpe_local_mm"}
    assert (step.measures["alive_s"] > 0.1).all()
    assert make(EnvSettings(id="Pendulum-v1"), count=1, evaluation=True).policy_mask is None


def test_a_goal_belongs_to_an_environment_that_has_one() -> None:
    with pytest.raises(UsageError, match=r"env\.goal: flowrl/CheetahRun-v0 has no option 'goal'"):
        make(EnvSettings(id="flowrl/CheetahRun-v0", goal="root"))


@pytest.mark.parametrize("id", ["flowrl/GridWorld-v0", "flowrl/HumanoidTrack-v0"])
def test_an_environment_that_cannot_hold_an_action_is_refused(id: str) -> None:
    with pytest.raises(UsageError, match=rf"env\.action_repeat=2: {id} .* Leave env\.action_repeat out"):
        make(EnvSettings(id=id, action_repeat=2))


def test_actions_are_held_by_one_key_alone() -> None:
    with pytest.raises(UsageError, match=r"env\.options: 'action_repeat' is set by flowrl"):
        make(EnvSettings(id="flowrl/CheetahRun-v0", options={"action_repeat": 2}))


@pytest.mark.parametrize("id", ["flowrl/CheetahRun-v0", "flowrl/HumanoidTrack-v0", "HalfCheetah-v5"])
def test_simulations_run_on_the_threads_that_are_asked_for(id: str) -> None:
    settings = EnvSettings(id=id, count=3, threads=1)
    spec = find(id)
    envs = built(spec, way(spec, settings, None), 3, {}, settings)
    assert isinstance(envs, TaskVectorEnv)
    assert envs.runner.simulation.threads == 1
    envs.close()


@pytest.mark.parametrize("id", ["flowrl/GridWorld-v0", "Pendulum-v1"])
def test_an_environment_without_simulations_of_ours_bears_any_number_of_threads(id: str) -> None:
    make(EnvSettings(id=id, count=2, threads=1)).close()
