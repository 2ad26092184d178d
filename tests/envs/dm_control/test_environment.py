"""The Gymnasium views of all control tasks: the same in both forms, deterministic, exactly resumable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from flowrl.contracts.errors import EnvironmentFailed, MissingDependency, TrainingDiverged, UsageError
from flowrl.envs.dm_control.environment import DMControlEnv, DMControlVectorEnv
from flowrl.envs.dm_control.family import NAMES
from flowrl.envs.dm_control.tasks import TASKS
from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings

from .replay import replay

EVERY = sorted(TASKS)


def actions_for(envs: DMControlVectorEnv, steps: int, seed: int = 0) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    shape = envs.action_space.shape
    return (random.uniform(-1, 1, shape).astype(np.float32) for _ in range(steps))


def run(envs: DMControlVectorEnv, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Everything that `steps` random steps give."""
    found: list[np.ndarray] = []
    for actions in actions_for(envs, steps, seed):
        obs, reward, terminated, truncated, infos = envs.step(actions)
        found += [obs, reward, terminated, truncated]
        found += [infos["final_obs"][row] for row in np.flatnonzero(truncated)]
    return found


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("name", EVERY)
def test_registered_in_both_forms(name: str) -> None:
    single = gymnasium.make(f"flowrl/{name}-v0")
    assert isinstance(single.unwrapped, DMControlEnv)
    profiles = TASKS[name][1]
    assert single.spec is not None
    assert {profile.episode_steps for profile in profiles.values()} == {single.spec.max_episode_steps}
    several = gymnasium.make_vec(f"flowrl/{name}-v0", num_envs=3, profile="playground")
    assert isinstance(several, DMControlVectorEnv)
    assert several.max_episode_steps == 1000
    assert several.runner.constants == profiles["playground"]
    assert several.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert several.metadata["render_fps"] == single.metadata["render_fps"]
    assert several.metadata["render_fps"] == round(1 / (profiles["dmc"].timestep * profiles["dmc"].substeps))
    assert several.action_space.shape == (3, several.runner.simulation.model.nu)
    assert several.single_action_space.dtype == np.float32


def test_the_table_and_the_registry_name_the_same_tasks() -> None:
    assert sorted(NAMES) == EVERY


def test_registration_needs_neither_torch_nor_mujoco() -> None:
    code = "import sys, flowrl.envs; print([name for name in ('torch', 'mujoco') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("profile", ["dmc", "playground"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.filterwarnings("error", "ignore:.*A Box observation space m.* value is -?infinity")
def test_gymnasiums_own_check(name: str, profile: str) -> None:
    env = gymnasium.make(f"flowrl/{name}-v0", profile=profile)
    check_env(env.unwrapped)


@pytest.mark.parametrize("name", EVERY)
def test_alone_it_is_the_vector_of_one(name: str) -> None:
    single = gymnasium.make(f"flowrl/{name}-v0", max_episode_steps=12)
    several = DMControlVectorEnv(name, max_episode_steps=12)
    start, _ = single.reset(seed=5)
    np.testing.assert_array_equal(several.reset(seed=5)[0], start[None])
    for actions in actions_for(several, 30):
        obs, reward, terminated, truncated, info = single.step(actions[0])
        obs_of_row, rewards, terminations, truncations, infos = several.step(actions)
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        if truncated:
            np.testing.assert_array_equal(infos["final_obs"][0], obs)
            obs, info = single.reset()
        np.testing.assert_array_equal(obs_of_row[0], obs)
        assert info == {}


def test_infos_are_those_of_gymnasiums_vector_of_the_single_env() -> None:
    ours = DMControlVectorEnv("PointMass", 3, max_episode_steps=4)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make("flowrl/PointMass-v0", max_episode_steps=4)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    ours.reset(seed=0), theirs.reset(seed=0)
    ends = 0
    for actions in actions_for(ours, 13):
        outcomes = ours.step(actions), theirs.step(actions)
        for one, other in zip(outcomes[0][:4], outcomes[1][:4], strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
        infos, expected = outcomes[0][4], outcomes[1][4]
        assert infos.keys() == expected.keys()
        if infos:
            ends += 1
            np.testing.assert_array_equal(infos["_final_obs"], expected["_final_obs"])
            np.testing.assert_array_equal(infos["_final_info"], expected["_final_info"])
            assert infos["final_info"] == expected["final_info"] == {}
            assert infos["final_obs"].dtype == expected["final_obs"].dtype == object
            assert infos["final_obs"][0].dtype == expected["final_obs"][0].dtype
    assert ends == 3


@pytest.mark.parametrize("name", EVERY)
def test_the_final_observation_is_the_true_successor(name: str) -> None:
    """The same actions with and without an end after 7 steps: up to the end nothing differs, and the last
    observation of the cut episode is the uncut one's next."""
    cut, uncut = DMControlVectorEnv(name, 3, max_episode_steps=7), DMControlVectorEnv(name, 3)
    same([cut.reset(seed=1)[0]], [uncut.reset(seed=1)[0]])
    for step, actions in enumerate(actions_for(cut, 7), start=1):
        obs, reward, terminated, truncated, infos = cut.step(actions)
        successor, expected, *_ = uncut.step(actions)
        np.testing.assert_array_equal(reward, expected)
        assert not terminated.any()
        assert truncated.tolist() == [step == 7] * 3
        if step < 7:
            np.testing.assert_array_equal(obs, successor)
            assert infos == {}
    np.testing.assert_array_equal(np.stack(infos["final_obs"]), successor)
    assert (obs != successor).any(axis=1).all()
    np.testing.assert_array_equal(obs, cut.runner.task.observation())


@pytest.mark.parametrize("profile", ["dmc", "playground"])
@pytest.mark.parametrize("name", EVERY)
def test_what_a_restart_shows_belongs_to_its_own_state(name: str, profile: str) -> None:
    """Nothing of the episode before is left in it, though touch sensors are no part of the state."""
    envs = DMControlVectorEnv(name, 6, profile=profile, max_episode_steps=40)
    envs.reset(seed=0)
    for actions in actions_for(envs, 40):
        obs, *_ = envs.step(actions)
    simulation, kind = envs.runner.simulation, TASKS[name][0]
    fields = {field: simulation.bind(field) for field in ("qpos", "qvel", "qacc_warmstart")}
    fields |= {field: simulation.expand(field) for field in kind.varied}
    for row in range(6):
        start = {field: values[row].numpy() for field, values in fields.items()}
        shown, _ = replay(name, start, np.zeros((1, envs.action_space.shape[1])), profile)
        np.testing.assert_allclose(obs[row], shown[0], rtol=0, atol=1e-14)


def test_an_episode_is_1000_steps_and_rows_keep_their_own_time() -> None:
    envs = DMControlVectorEnv("PointMass", 2)
    envs.reset(seed=0)
    envs.runner.elapsed[1] = 10
    truncated = [envs.step(np.zeros((2, 2), np.float32))[3] for _ in range(1000)]
    ends = np.argwhere(np.stack(truncated)).tolist()
    assert ends == [[989, 1], [999, 0]]  # counted from 0


def test_staggered_episodes_are_cut_at_different_times() -> None:
    """Each row once where its number of steps ends it, then after a complete episode; the same for a seed."""
    envs = DMControlVectorEnv("PointMass", 64, max_episode_steps=20)
    envs.reset(seed=0)
    before = envs.stagger()
    assert len(set(before.tolist())) > 10 and before.min() >= 0 and before.max() < 20
    truncated = np.stack([envs.step(np.zeros((64, 2), np.float32))[3] for _ in range(40)])
    for row, steps in enumerate(before):
        assert np.flatnonzero(truncated[:, row]).tolist() == [19 - steps, 39 - steps]
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.stagger(), before)


def test_an_action_is_held_and_its_rewards_are_summed() -> None:
    """10 control steps in holds of 4, 4 and 2; the rows differ, and so do the actions."""
    held, single = (DMControlVectorEnv("CheetahRun", 3, max_episode_steps=10, action_repeat=n) for n in (4, 1))
    held.reset(seed=1), single.reset(seed=1)
    for actions, steps in zip(actions_for(single, 3), (4, 4, 2), strict=True):
        obs, reward, _, truncated, infos = held.step(actions)
        rewards = []
        for _ in range(steps):
            one = single.step(actions)
            rewards.append(one[1])
        np.testing.assert_array_equal(obs, one[0])
        np.testing.assert_allclose(reward, np.sum(rewards, axis=0), rtol=1e-14)
        assert truncated.tolist() == one[3].tolist() == [steps == 2] * 3
    np.testing.assert_array_equal(np.stack(infos["final_obs"]), np.stack(one[4]["final_obs"]))
    assert held.metadata["render_fps"] == single.metadata["render_fps"] / 4


@pytest.mark.parametrize("name", EVERY)
def test_seeds_decide_everything_and_threads_nothing(name: str) -> None:
    runs = []
    for seed, threads in ((3, 1), (3, 2), (3, 3), (4, 1)):
        envs = DMControlVectorEnv(name, 9, max_episode_steps=8, threads=threads)
        torch.set_num_threads(threads)
        runs.append([envs.reset(seed=seed)[0], *run(envs, 20)])
    torch.set_num_threads(1)
    same(runs[0], runs[1])
    same(runs[0], runs[2])
    assert any((one != other).any() for one, other in zip(runs[0], runs[3], strict=True))


def test_rows_start_differently_and_so_do_episodes() -> None:
    envs = DMControlVectorEnv("ReacherEasy", 4)
    first, second = envs.reset(seed=0)[0], envs.reset()[0]
    starts = {tuple(row) for row in (*first, *second)}
    assert len(starts) == 8
    unseeded = [DMControlVectorEnv("ReacherEasy", 4).reset()[0][:, :2] for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_state_restored_in_a_fresh_environment_continues_bit_for_bit(name: str) -> None:
    """From the middle of an episode, on another number of threads, over the end of episodes."""
    options: dict[str, Any] = {"num_envs": 4, "max_episode_steps": 30}
    first = DMControlVectorEnv(name, threads=2, **options)
    first.reset(seed=2)
    run(first, 25)
    state = first.state()
    expected = run(first, 50, seed=8)
    second = DMControlVectorEnv(name, threads=1, **options)
    second.restore(state)
    same(run(second, 50, seed=8), expected)
    np.testing.assert_array_equal(first.reset()[0], second.reset()[0])  # the generators have moved alike


@pytest.mark.parametrize("name", EVERY)
def test_flowrl_resumes_it_exactly(name: str) -> None:
    settings = EnvSettings(id=f"flowrl/{name}-v0", count=3, options={"max_episode_steps": 12})
    first, second = make(settings), make(settings)
    assert first.exact_resume
    first.reset(0)
    size = first.action_size
    actions = torch.rand(30, 3, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for action in actions[:10]:
        first.step(action)
    obs = second.restore(first.state())
    assert torch.equal(obs, first.obs)
    for action in actions[10:]:
        ours, theirs = first.step(action), second.step(action)
        assert torch.equal(ours.obs, theirs.obs) and torch.equal(ours.reward, theirs.reward)
        assert torch.equal(ours.successor, theirs.successor)
    assert ours.obs.dtype == torch.float32


# ---------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e11])
@pytest.mark.filterwarnings("ignore")
def test_a_state_out_of_bounds_shows_in_observation_and_reward(name: str, value: float) -> None:
    envs, sound = (DMControlVectorEnv(name, 3, max_episode_steps=5), DMControlVectorEnv(name, 3, max_episode_steps=5))
    for each in (envs, sound):
        each.reset(seed=0)
    envs.runner.simulation.bind("qvel")[1] = value
    for step, actions in enumerate(actions_for(envs, 8), start=1):
        obs, reward, *_, infos = envs.step(actions)
        expected_obs, expected_reward, *_, expected = sound.step(actions)
        if step == 5:
            obs, expected_obs = np.stack(infos["final_obs"]), np.stack(expected["final_obs"])
        lost = [1] if step <= 5 else []  # the new episode is sound again
        assert np.isnan(reward).nonzero()[0].tolist() == lost
        assert np.isnan(obs).all(axis=1).nonzero()[0].tolist() == lost
        if step <= 5:  # then the resets have drawn the same
            np.testing.assert_array_equal(obs[[0, 2]], expected_obs[[0, 2]])
            np.testing.assert_array_equal(reward[[0, 2]], expected_reward[[0, 2]])


def test_flowrl_stops_at_a_state_that_is_not_finite() -> None:
    adapter = make(EnvSettings(id="flowrl/CheetahRun-v0", count=2))
    adapter.reset(0)
    adapter._envs.runner.simulation.bind("qpos")[1, 4] = np.nan
    with pytest.raises(TrainingDiverged, match="environment 1 is not finite"):
        adapter.step(torch.zeros(2, 6))


def test_no_log_file_appears(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    envs = DMControlVectorEnv("CheetahRun")
    envs.reset(seed=0)
    envs.runner.simulation.bind("qpos")[0, 4] = np.nan
    envs.step(np.zeros((1, 6), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_actions_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    envs = DMControlVectorEnv("PointMass", 2)
    envs.reset(seed=0)
    before = envs.state()
    with pytest.raises(ValueError, match="not finite"):
        envs.step(np.array([[0, 0], [np.nan, 0]]))
    for shape in ((2,), (4,), (1, 4)):
        with pytest.raises(ValueError, match="shape"):
            envs.step(np.zeros(shape))
    with pytest.raises(ValueError, match="shape"):  # transposed: as many numbers, for other actuators
        DMControlVectorEnv("CheetahRun", 3).step(np.zeros((6, 3)))
    after = envs.state()
    np.testing.assert_array_equal(before["arena"]["simulation"]["state"], after["arena"]["simulation"]["state"])


def test_a_state_has_its_own_random_numbers() -> None:
    one, other = DMControlVectorEnv("PointMass", 8), DMControlVectorEnv("PointMass", 8)
    one.reset(seed=0)
    state = one.state()
    first = one.stagger()
    for _ in range(2):  # and none is used up in the state
        other.restore(state)
        np.testing.assert_array_equal(other.stagger(), first)


def test_a_reset_takes_no_options() -> None:
    with pytest.raises(UsageError, match="reset_mask"):
        DMControlVectorEnv("PointMass", 2).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"camera": "sid"}, "no camera 'sid'. Did you mean 'side'"),
        ({"camera": [1]}, "no camera"),
        ({"camera": 2}, "no camera 2"),
        ({"height": "a"}, "height must be a whole number"),
        ({"profile": ["dmc"]}, "no profile"),
    ],
)
@pytest.mark.parametrize("kind", [DMControlEnv, DMControlVectorEnv])
def test_wrong_options_are_told_when_it_is_made(kind: Any, options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kind("CheetahRun", **options)


def test_mujoco_clamps_actions() -> None:
    runs = []
    for size in (1.0, 3.0):
        envs = DMControlVectorEnv("CheetahRun")
        envs.reset(seed=0)
        runs.append(envs.step(np.full((1, 6), size, np.float32))[0])
    same([runs[0]], [runs[1]])


@pytest.mark.parametrize("kind", [DMControlEnv, DMControlVectorEnv])
def test_wrong_options_are_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match="Did you mean 'FishSwim'"):
        kind("FishSwym")
    with pytest.raises(UsageError, match=r"CheetahRun has no profile 'dmcc'\. Did you mean 'dmc'"):
        kind("CheetahRun", profile="dmcc")


@pytest.mark.parametrize("steps", [0, True, 1.5, "10"])
def test_an_episode_has_at_least_one_step(steps: Any) -> None:
    with pytest.raises(UsageError, match="max_episode_steps"):
        DMControlVectorEnv("PointMass", max_episode_steps=steps)


def test_flowrl_names_the_options() -> None:
    with pytest.raises(UsageError, match=r"no option 'profil'\. Did you mean 'profile'"):
        make(EnvSettings(id="flowrl/CheetahRun-v0", count=1, options={"profil": "dmc"}))


def test_an_error_of_the_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(EnvSettings(id="flowrl/PointMass-v0", count=1))
    adapter.reset(0)

    def fail(*_: Any) -> None:
        raise RuntimeError("stack overflow")

    monkeypatch.setattr(adapter._envs.runner.simulation, "step", fail)
    with pytest.raises(EnvironmentFailed, match="stack overflow"):
        adapter.step(torch.zeros(1, 2))


# --------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", EVERY)
def test_pictures(name: str) -> None:
    envs = DMControlVectorEnv(name, 2, render_mode="rgb_array", height=60, width=80, max_episode_steps=2)
    envs.reset(seed=0)
    try:
        pictures = envs.render()
    except MissingDependency as reason:
        pytest.skip(str(reason))
    assert pictures is not None and len(pictures) == 2
    for picture in pictures:
        assert picture.shape == (60, 80, 3) and picture.dtype == np.uint8
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert (pictures[0] != pictures[1]).any()
    *_, infos = [envs.step(actions)[4] for actions in actions_for(envs, 2)]
    assert infos["final_info"]["_render"].tolist() == [True, True]
    assert infos["final_info"]["render"].shape == (2, 60, 80, 3)
    assert (infos["final_info"]["render"] != np.stack(envs.render() or ())).any()  # of the end, not of the start
    envs.close()


def test_the_last_picture_is_of_the_end_of_a_hold_cut_short() -> None:
    """Row 0 ends after 2 of the 4 control steps of its third hold, row 1 goes on."""
    last = []
    for repeat in (4, 1):
        envs = DMControlVectorEnv(
            "CheetahRun", 2, max_episode_steps=13, render_mode="rgb_array", height=60, width=80, action_repeat=repeat
        )
        envs.reset(seed=0)
        envs.runner.elapsed[0] = 3
        try:
            envs.render()
        except MissingDependency as reason:
            pytest.skip(str(reason))
        infos: dict[str, Any] = {}
        for actions in actions_for(envs, 3):
            for _ in range(4 // repeat):
                infos = infos or envs.step(actions)[4]
        assert infos["final_info"]["_render"].tolist() == [True, False]
        last.append(infos["final_info"]["render"][0])
    np.testing.assert_array_equal(*last)


def test_no_pictures_without_the_mode() -> None:
    assert DMControlVectorEnv("PointMass").render() is None
    assert DMControlEnv("PointMass").render() is None


def test_the_model_that_is_drawn_can_be_chosen_a_camera() -> None:
    views = []
    for camera in ("side", "back"):
        env = DMControlEnv("CheetahRun", render_mode="rgb_array", camera=camera, height=48, width=64)
        env.reset(seed=0)
        try:
            views.append(env.render())
        except MissingDependency as reason:
            pytest.skip(str(reason))
        env.close()
    assert (views[0] != views[1]).any()


def test_its_state_is_of_plain_arrays() -> None:
    envs = DMControlVectorEnv("FishSwim", 2)
    envs.reset(seed=0)
    state = envs.state()["arena"]
    shapes = {name: array.shape for name, array in state["simulation"].items()}
    assert json.loads(json.dumps({name: list(shape) for name, shape in shapes.items()})).keys() == shapes.keys()
    assert all(type(array) is np.ndarray for array in (*state["simulation"].values(), state["random"]))
