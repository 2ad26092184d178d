"""HumanoidTrack's two Gymnasium views: the same in both forms, deterministic, exactly resumable, and told in words."""

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
import typer
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from typer.testing import CliRunner

from flowrl.cli.envs import envs
from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.envs.factory import make
from flowrl.envs.humanoid.environment import HumanoidTrackEnv, HumanoidTrackVectorEnv
from flowrl.envs.humanoid.metrics import ERRORS
from flowrl.envs.humanoid.model import STANDING_HEIGHT
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.observation import PARTS, WHERE
from flowrl.envs.settings import EnvSettings

ID = "flowrl/HumanoidTrack-v0"
NUMBERS = ("success", "alive_s", "strict_alive_s", *ERRORS, "clip")


def standing(frames: int = 40) -> Motion:
    qpos = np.zeros((frames, 35))
    qpos[:, 2], qpos[:, 3] = STANDING_HEIGHT, 1
    return Motion(f"standing {frames}", qpos)


CLIPS = [standing(40), standing(9), standing(20)]


def several(num_envs: int = 1, **options: Any) -> HumanoidTrackVectorEnv:
    return HumanoidTrackVectorEnv(num_envs, **({"motions": CLIPS, "threads": 1} | options))


def actions_for(env: HumanoidTrackVectorEnv, steps: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Wild enough that episodes fail."""
    random = np.random.default_rng(seed)
    return (random.normal(size=env.action_space.shape).astype(np.float32) for _ in range(steps))


def run(env: HumanoidTrackVectorEnv, steps: int, seed: int = 0) -> list[NDArray[Any]]:
    """Everything that `steps` random steps give."""
    found: list[NDArray[Any]] = []
    for actions in actions_for(env, steps, seed):
        obs, reward, terminated, truncated, infos = env.step(actions)
        found += [obs, reward, terminated, truncated]
        found += [infos["final_obs"][row] for row in np.flatnonzero(terminated | truncated)]
        found += [values for _, values in sorted(infos.get("final_info", {}).items())]
    return found


def same(ours: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_registered_in_both_forms() -> None:
    single = gymnasium.make(ID)
    assert isinstance(single.unwrapped, HumanoidTrackEnv)
    assert single.spec is not None and single.spec.max_episode_steps == 300
    vector = gymnasium.make_vec(ID, num_envs=3, motions=["gait:walk"], goal="root")
    assert isinstance(vector, HumanoidTrackVectorEnv)
    assert vector.max_episode_steps == 300
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert vector.metadata["render_fps"] == single.metadata["render_fps"] == 30
    assert vector.observation_space.shape == (3, 667) and vector.single_observation_space.dtype == np.float64
    assert vector.action_space.shape == (3, 28) and vector.single_action_space.dtype == np.float32
    assert vector.policy_mask.sum() == 285 and vector.policy_mask.dtype == np.bool_
    assert single.unwrapped.policy_mask.all()


def test_registration_needs_neither_torch_nor_mujoco() -> None:
    code = (
        f"import sys, gymnasium, flowrl.envs; gymnasium.spec({ID!r}); print({{'torch', 'mujoco'}} & {{*sys.modules}})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.filterwarnings(
    "error", "ignore:.*A Box observation space m.* value is -?infinity", "ignore:.*Box action space.*"
)
def test_gymnasiums_own_check(evaluation: bool) -> None:
    env = gymnasium.make(ID, motions=CLIPS, evaluation=evaluation)
    check_env(env.unwrapped)


@pytest.mark.parametrize("evaluation", [False, True])
def test_alone_it_is_the_vector_of_one(evaluation: bool) -> None:
    single = gymnasium.make(ID, max_episode_steps=12, motions=CLIPS, evaluation=evaluation)
    vector = several(max_episode_steps=12, evaluation=evaluation)
    start, _ = single.reset(seed=5)
    np.testing.assert_array_equal(vector.reset(seed=5)[0], start[None])
    ends = 0
    for actions in actions_for(vector, 60):
        obs, reward, terminated, truncated, info = single.step(actions[0])
        obs_of_row, rewards, terminations, truncations, infos = vector.step(actions)
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        assert tuple(info) == NUMBERS
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(infos["final_obs"][0], obs)
            assert {name: infos["final_info"][name][0] for name in NUMBERS} == info
            obs, info = single.reset()
            assert info == {}
        np.testing.assert_array_equal(obs_of_row[0], obs)
    assert ends > 4


def test_infos_are_those_of_gymnasiums_vector_of_the_single_env() -> None:
    """Starts differ, for every environment of theirs has its own random numbers; names, types and masks do not."""
    options: dict[str, Any] = {"motions": [standing(6)], "evaluation": True}
    ours = several(3, **options)
    theirs = SyncVectorEnv([lambda: gymnasium.make(ID, **options)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    ours.reset(seed=0), theirs.reset(seed=0)
    ends = 0
    for actions in actions_for(ours, 15):
        outcomes = ours.step(0.1 * actions), theirs.step(0.1 * actions)
        for one, other in zip(outcomes[0][:4], outcomes[1][:4], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        infos, expected = outcomes[0][4], outcomes[1][4]
        if "final_info" in expected:
            ends += 1
            assert infos["final_info"].keys() == expected["final_info"].keys()
            for name, values in expected["final_info"].items():
                np.testing.assert_array_equal(infos["final_info"][name], values)
                assert infos["final_info"][name].dtype == values.dtype
            np.testing.assert_array_equal(infos["_final_info"], expected["_final_info"])
            np.testing.assert_array_equal(np.stack(infos["final_obs"]), np.stack(expected["final_obs"]))
        else:
            assert infos == {}
    assert ends == 3


def test_many_environments_under_wild_actions_stay_finite() -> None:
    env = HumanoidTrackVectorEnv(256)
    assert np.isfinite(env.reset(seed=0)[0]).all()
    for actions in actions_for(env, 60):
        obs, reward, *_, infos = env.step(actions)
        assert np.isfinite(obs).all() and np.isfinite(reward).all()
        assert (reward <= 1).all() and (reward >= -0.1).all()
        for last in infos.get("final_obs", np.array([None])):
            assert last is None or np.isfinite(last).all()


def test_seeds_decide_everything_and_threads_nothing() -> None:
    runs = []
    for seed, threads in ((3, 1), (3, 2), (3, 3), (4, 1)):
        env = several(9, threads=threads, sampling="failure", motions=["gait:walk", *CLIPS])
        torch.set_num_threads(threads)
        runs.append([env.reset(seed=seed)[0], *run(env, 30)])
    again = [env.reset(seed=4)[0], *run(env, 30)]  # nothing of before is left
    torch.set_num_threads(1)
    same(runs[0], runs[1])
    same(runs[0], runs[2])
    same(again, runs[3])
    assert (runs[0][0] != runs[3][0]).any()


@pytest.mark.parametrize("options", [{"sampling": "failure"}, {"evaluation": True}])
def test_a_state_restored_in_a_fresh_environment_continues_bit_for_bit(options: dict[str, Any]) -> None:
    """From the middle of episodes, on another number of threads, over their ends, with their numbers."""
    first = several(5, threads=2, **options)
    first.reset(seed=2)
    run(first, 25)
    state = first.state()
    expected = run(first, 40, seed=8)
    second = several(5, threads=1, **options)
    second.restore(state)
    same(run(second, 40, seed=8), expected)
    np.testing.assert_array_equal(first.reset()[0], second.reset()[0])  # the generators have moved alike


@pytest.mark.parametrize("motions", [[standing(40), standing(9), standing(21)], CLIPS[:2]])
def test_a_state_of_other_motions_is_refused(motions: list[Motion]) -> None:
    """A motion's file may have changed since."""
    before, after = several(2), several(2, motions=motions)
    before.reset(seed=0)
    with pytest.raises(UsageError, match="not those of the saved run"):
        after.restore(before.state())


def test_its_state_is_of_plain_arrays() -> None:
    env = several(2)
    env.reset(seed=0)
    state = env.state()["arena"]
    assert all(type(array) is np.ndarray for array in state["task"].values())
    before = {name: array.copy() for name, array in state["task"].items()}
    run(env, 3)
    same(list(state["task"].values()), list(before.values()))  # a copy


def test_flowrl_resumes_it_exactly_and_passes_actions_as_they_are() -> None:
    settings = EnvSettings(id=ID, count=3, motions=("gait:walk",), goal="root_hands")
    first, second = make(settings), make(settings)
    assert first.exact_resume and first.native
    first.reset(0)
    actions = torch.randn(30, 3, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first.bound(3 * actions[0]), 3 * actions[0])
    for action in actions[:10]:
        first.step(action)
    assert torch.equal(second.restore(first.state()), first.obs)
    ended = 0
    for action in actions[10:]:
        ours, theirs = first.step(action), second.step(action)
        assert torch.equal(ours.obs, theirs.obs) and torch.equal(ours.reward, theirs.reward)
        assert torch.equal(ours.successor, theirs.successor)
        assert (ours.success[ours.terminated] == 0).all()
        ended += int(ours.terminated.sum())
    assert ended > 3


# ----------------------------------------------------------------------------------------------------- options


def test_evaluation_shows_every_clip_from_its_start() -> None:
    """Two rows, three clips of 5, 4 and 6 frames: 3, 2 and 4 steps."""
    clips = [standing(5), standing(4), standing(6)]
    env = several(2, motions=clips, evaluation=True)
    env.reset(seed=0)
    shown: list[list[tuple[int, int]]] = [[], []]
    for step in range(1, 13):
        *_, truncated, infos = env.step(np.zeros((2, 28), np.float32))
        for row in np.flatnonzero(truncated):
            shown[row].append((step, int(infos["final_info"]["clip"][row])))
    assert shown[0] == [(3, 0), (7, 2), (9, 1), (12, 0)]  # clips 0, 2, 4 mod 3, 6 mod 3
    assert shown[1] == [(2, 1), (5, 0), (9, 2), (11, 1)]


def test_evaluation_of_what_loops_begins_in_any_phase() -> None:
    """So a policy without noise plays as many episodes as it is asked for, not one again and again. All are whole."""
    env = several(64, motions=["gait:walk"], evaluation=True)
    env.reset(seed=0)
    began = env.runner.task.time.clone()
    assert len(began.unique()) > 30
    assert int(began.max()) + 300 <= int(env.runner.task.reference.lengths[0]) - 2
    env.reset(seed=0)
    np.testing.assert_array_equal(env.runner.task.time, began)


def test_what_loops_lasts_as_long_as_episodes_do() -> None:
    env = several(1, motions=["gait:walk"], max_episode_steps=900)
    assert env.runner.task.reference.lengths.tolist() == [900 + 4 * 30 + 1]


def test_the_numbers_of_an_episode_are_those_of_its_places() -> None:
    """A fall, until the mean distance exceeds 0.5 m. The reference stands still, so that the goal, a frame ahead, is
    what the places are compared with."""
    env = several(1, motions=[standing(300)], evaluation=True)
    env.reset(seed=0)
    seen = []
    for actions in actions_for(env, 200):
        obs, _, terminated, _, infos = env.step(0.3 * actions)
        seen.append(infos["final_obs"][0] if infos else obs[0])
        if terminated[0]:
            break
    told = {name: values[0] for name, values in infos["final_info"].items()}
    places = np.stack(seen)[:, WHERE["goal_place_differences"]].reshape(len(seen), 15, 3)
    distance = np.linalg.norm(places, axis=2)
    local = np.linalg.norm(places - places[:, :1], axis=2)
    alive = (distance.mean(1) <= 0.5).tolist()
    assert alive == [True] * (len(seen) - 1) + [False]
    strict = (distance.max(1) <= 0.25).tolist().index(False)
    assert 3 < strict < len(seen) - 3
    assert told["success"] == 0 and told["clip"] == 0
    assert told["alive_s"] == (len(seen) - 1) / 30 and told["strict_alive_s"] == strict / 30
    distance, local = distance[:-1], local[:-1]  # the steps before the failure
    assert told["mpjpe_mm"] == pytest.approx(1000 * distance.mean(), rel=1e-9)
    assert told["mpjpe_local_mm"] == pytest.approx(1000 * local.mean(), rel=1e-9)
    assert told["arms_mm"] == pytest.approx(1000 * local[:, 3:9].mean(), rel=1e-9)
    assert told["legs_mm"] == pytest.approx(1000 * local[:, 9:].mean(), rel=1e-9)


def test_segments_touch_one_another_on_demand() -> None:
    touching = [
        int((several(1, self_collision=on).runner.simulation.model.geom_contype > 0).sum()) for on in (False, True)
    ]
    assert touching == [1, 16]


@pytest.mark.parametrize("distance", [0.25, 0.6])
def test_training_ends_where_a_segment_is_too_far(distance: float) -> None:
    """A fall from a reference that stands still, so that the goal, a frame ahead, is what the places are compared
    with; the strict measure stays what it is."""
    env = several(1, motions=[standing(10_000)], termination_distance=distance)
    env.reset(seed=0)
    seen = []
    for actions in actions_for(env, 200):
        obs, _, terminated, _, infos = env.step(0.3 * actions)
        seen.append(infos["final_obs"][0] if infos else obs[0])
        if terminated[0]:
            break
    places = np.stack(seen)[:, WHERE["goal_place_differences"]].reshape(len(seen), 15, 3)
    farthest = np.linalg.norm(places, axis=2).max(1)
    assert (farthest <= distance).tolist() == [True] * (len(seen) - 1) + [False]
    told = infos["final_info"]
    assert told["alive_s"][0] == (len(seen) - 1) / 30
    assert told["strict_alive_s"][0] == (farthest <= 0.25).tolist().index(False) / 30


def test_sources_have_weights() -> None:
    motions = [{"source": "gait:walk", "weight": 3.0}, "gait:stand", standing()]
    env = several(1, motions=motions)
    reference = env.runner.task.reference
    np.testing.assert_allclose(reference.weights, [0.6, 0.2, 0.2])


@pytest.mark.parametrize("kind", [HumanoidTrackEnv, HumanoidTrackVectorEnv])
def test_wrong_options_are_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"no goal 'hands'\. Did you mean 'root_hands'"):
        kind(goal="hands", motions=CLIPS)
    with pytest.raises(UsageError, match=r"no sampling 'failures'\. Did you mean 'failure'"):
        kind(sampling="failures", motions=CLIPS)
    with pytest.raises(UsageError, match=r"env\.goal: .* no goal \['root'\]"):
        kind(goal=["root"], motions=CLIPS)
    for distance in (0, -0.25, float("nan"), "far", True):
        with pytest.raises(UsageError, match=r"env\.options\.termination_distance of .* such as 0\.25"):
            kind(termination_distance=distance, motions=CLIPS)
    for flag in ({"evaluation": "no"}, {"self_collision": 2}):
        with pytest.raises(UsageError, match=rf"env\.options\.{next(iter(flag))} of HumanoidTrack is true or false"):
            kind(motions=CLIPS, **flag)
    with pytest.raises(UsageError, match=r"no targets 'present'\. Did you mean 'present_arms'"):
        kind(targets="present", motions=CLIPS)
    with pytest.raises(UsageError, match=r"env\.goal root hides from the policy"):
        kind(goal="root", targets="reference", motions=CLIPS)
    for motions in ([], "gait:walk", CLIPS[0]):
        with pytest.raises(UsageError, match="motions must be a list"):
            kind(motions=motions)
    with pytest.raises(UsageError, match="gait"):
        kind(motions=["gait:wolk"])


def test_flowrl_names_the_options() -> None:
    with pytest.raises(UsageError, match=r"no option 'samplng'\. Did you mean 'sampling'"):
        make(EnvSettings(id=ID, count=1, options={"samplng": "failure"}))


def test_flowrl_envs_tells_what_it_is() -> None:
    app = typer.Typer()
    app.command()(envs)
    found = json.loads(CliRunner().invoke(app, [ID, "--json"], catch_exceptions=False).stdout)
    assert found["parts"] == PARTS and sum(found["parts"].values()) == found["observation"]["shape"][0]
    assert set(found["about"]) == {"start", "action", "observation", "reward", "end"}
    assert found["settings"]["goal"] == ["full", "root_hands", "root"]
    assert found["settings"]["motions"][0] == "gait:walk"
    assert found["options"].keys() == {"sampling", "evaluation", "self_collision", "termination_distance", "targets"}
    assert found["visible"] == {"full": 667, "root_hands": 297, "root": 285}
    text = CliRunner().invoke(app, [ID], catch_exceptions=False).stdout
    assert "root_hands" in text and "285" in text and "0.5 rad" in text


# ---------------------------------------------------------------------------------------------------- pictures


def test_the_ghost_stands_beside_the_humanoid() -> None:
    env = several(1, motions=[standing()])
    env.reset(seed=0)
    expected = standing().qpos[0] - 0.8 * np.eye(35)[0]
    np.testing.assert_array_equal(env.runner.task.ghost(0), expected)
    assert env.runner.task.reference.qpos[0, 0] == 0  # it is not the reference itself that has moved


def test_pictures_show_the_reference_as_a_ghost() -> None:
    """It is see-through orange where the humanoid is not, and the physics do not know it."""
    aside = standing()
    aside.qpos[:, 7:] += 0.3
    env, blind = (
        several(1, motions=[aside], render_mode=mode, height=96, width=128, evaluation=True, max_episode_steps=3)
        for mode in ("rgb_array", None)
    )
    env.reset(seed=0), blind.reset(seed=0)
    try:
        (picture,) = env.render() or ()
    except MissingDependency as reason:
        pytest.skip(str(reason))
    simulation = env.runner.simulation
    alone = simulation.render(0, 96, 128, "follow")
    beside = simulation.render(0, 96, 128, "follow", ghost=torch.from_numpy(standing().qpos[0]))
    assert picture.shape == (96, 128, 3)
    changed = (alone != beside).any(2)
    assert changed.sum() > 20
    gained = beside[changed].astype(float).mean(0) - alone[changed].astype(float).mean(0)
    assert gained[0] > gained[1] > gained[2]  # towards orange
    for actions in actions_for(env, 3):
        outcomes = env.step(actions), blind.step(actions)
        np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
        env.render()
    assert outcomes[0][4]["final_info"]["render"].shape == (1, 96, 128, 3)
    assert outcomes[0][4]["final_info"]["_success"].tolist() == [True]
    env.close()


def test_no_pictures_without_the_mode() -> None:
    assert several().render() is None
    assert HumanoidTrackEnv(motions=CLIPS).render() is None
