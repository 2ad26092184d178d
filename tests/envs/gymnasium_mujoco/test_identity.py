"""Gymnasium's MuJoCo environments as flowrl steps them, against Gymnasium's own."""

from __future__ import annotations

import io
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RepeatAction

from flowrl.contracts.errors import TrainingDiverged
from flowrl.contracts.protocols import Step
from flowrl.envs import state_capture
from flowrl.envs.factory import make
from flowrl.envs.gymnasium_mujoco.family import IDS
from flowrl.envs.gymnasium_mujoco.tasks import TASKS, vector_env
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.vector_env import TaskVectorEnv

pytestmark = pytest.mark.slow

EVERY = sorted(TASKS)
FALLING = ["Hopper-v5", "Walker2d-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Humanoid-v5"]
FIELDS = ("obs", "reward", "terminated", "truncated", "successor")


def native(id: str, count: int, **options: Any) -> TaskVectorEnv:
    with state_capture.quiet_mujoco():
        return vector_env(id, count, **options)


def theirs(id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    with state_capture.quiet_mujoco():
        return gymnasium.make(id, disable_env_checker=True, **options)


def move(env: gymnasium.Env[Any, Any], ours: TaskVectorEnv, row: int = 0) -> np.ndarray:
    """Start Gymnasium's environment where `row` of ours has just started; what it shows there."""
    env.reset()
    physics: Any = env.unwrapped
    mujoco.mj_resetData(physics.model, physics.data)
    qpos, qvel = (ours.runner.simulation.bind(field)[row].numpy() for field in ("qpos", "qvel"))
    physics.set_state(qpos, qvel)
    return np.asarray(physics._get_obs())


def test_the_list_and_the_table_name_the_same_environments() -> None:
    assert sorted(IDS) == EVERY


@pytest.mark.parametrize("id", EVERY)
def test_spaces_and_facts_are_theirs(id: str) -> None:
    ours, env = native(id, 3), theirs(id)
    assert ours.single_observation_space == env.observation_space
    assert ours.single_action_space == env.action_space
    assert ours.metadata["render_fps"] == env.metadata["render_fps"]
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.spec is not None and ours.max_episode_steps == env.spec.max_episode_steps
    env.close()


@pytest.mark.parametrize("id", EVERY)
def test_a_thousand_steps_are_theirs(id: str) -> None:
    """Random actions, a third of them out of bounds, through all the falls on the way."""
    ours, env = native(id, 2), theirs(id)
    random, bounds = np.random.default_rng(1), env.action_space.high
    obs, _ = ours.reset(seed=0)
    np.testing.assert_allclose(obs[0], move(env, ours), rtol=0, atol=1e-9)
    ends = 0
    for _ in range(1000):
        actions = (random.uniform(-1.5, 1.5, ours.action_space.shape) * bounds).astype(np.float32)
        obs, reward, terminated, truncated, infos = ours.step(actions)
        expected, gained, ended, cut, _ = env.step(actions[0])
        assert (terminated[0], truncated[0]) == (ended, cut)
        last = infos["final_obs"][0] if ended or cut else obs[0]
        np.testing.assert_allclose(last, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(reward[0], gained, rtol=0, atol=1e-9)
        if ended or cut:
            ends += 1
            np.testing.assert_allclose(obs[0], move(env, ours), rtol=0, atol=1e-9)
    assert ends >= (3 if id in FALLING or id == "Ant-v5" else 1)
    env.close()


@pytest.mark.parametrize("id", ["Hopper-v5", "InvertedDoublePendulum-v5"])
@pytest.mark.parametrize("repeat", [1, 3])
def test_rows_end_and_restart_each_in_its_own_time(id: str, repeat: int) -> None:
    """Through the adapter, with falls and a time limit, some while an action is held: every field is Gymnasium's,
    and rows that go on go on."""
    count, limit = 4, 12
    options = {"max_episode_steps": limit}
    adapter = make(EnvSettings(id=id, count=count, mode="batch", options=options, action_repeat=repeat))
    single = [RepeatAction(theirs(id, max_episode_steps=limit), repeat) for _ in range(count)]
    adapter.reset(seed=4)
    vector: Any = adapter._envs
    for row, env in enumerate(single):
        move(env, vector, row)
    lone = both = 0
    for action in torch.rand(80, count, adapter.action_size, generator=torch.manual_seed(0)) * 2 - 1:
        step = adapter.step(action)
        ended = step.terminated | step.truncated
        lone += int(0 < ended.sum() < count)
        both += int((step.truncated & ~step.terminated).any())
        for row, env in enumerate(single):
            obs, reward, terminated, truncated, _ = env.step(action[row].numpy())
            assert (step.terminated[row], step.truncated[row]) == (terminated, truncated)
            np.testing.assert_allclose(step.successor[row], obs.astype(np.float32), rtol=1e-6)
            np.testing.assert_allclose(step.reward[row], np.float32(reward), rtol=1e-6)
            shown = move(env, vector, row) if terminated or truncated else obs
            np.testing.assert_allclose(step.obs[row], shown.astype(np.float32), rtol=1e-6)
    assert lone > 5 and both > 0
    adapter.close()


def test_an_episode_is_1000_steps() -> None:
    ours = native("HalfCheetah-v5", 2)
    ours.reset(seed=0)
    ours.runner.elapsed[:] = torch.tensor([998, 500])
    zeros = np.zeros((2, 6), np.float32)
    assert [ours.step(zeros)[3].tolist() for _ in range(3)] == [[False, False], [True, False], [False, False]]
    assert ours.runner.elapsed.tolist() == [1, 503]


@pytest.mark.parametrize("id", EVERY)
def test_starts_are_distributed_as_theirs(id: str) -> None:
    """Positions and velocities: within the noise where it is uniform, of its spread where it is normal."""
    ours, env = native(id, 3000), theirs(id)
    ours.reset(seed=0)
    physics: Any = env.unwrapped
    env.reset(seed=0)
    noise = physics._reset_noise_scale
    drawn = []
    for _ in range(300):
        env.reset()
        drawn.append((physics.data.qpos - physics.init_qpos, physics.data.qvel - physics.init_qvel))
    for place, (field, start) in enumerate((("qpos", physics.init_qpos), ("qvel", physics.init_qvel))):
        off = ours.runner.simulation.bind(field).numpy() - start
        expected = np.stack([pair[place] for pair in drawn])
        assert (off.std(0) > 0).all() and abs(off.mean()) < 0.05 * noise
        assert np.abs(off).mean() == pytest.approx(np.abs(expected).mean(), rel=0.07)
        assert (np.abs(off).max() <= noise) == (np.abs(expected).max() <= noise)
        assert np.abs(off).max() > 0.99 * noise
        assert np.abs(np.corrcoef(off.T) - np.eye(off.shape[1])).max() < 0.1
    env.close()


def trace(ours: TaskVectorEnv, steps: int) -> list[np.ndarray]:
    random, found = np.random.default_rng(3), []
    for _ in range(steps):
        actions = random.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        found += ours.step(actions)[:4]
    return found


@pytest.mark.parametrize("id", EVERY)
def test_seeds_decide_everything_and_threads_nothing(id: str) -> None:
    runs = []
    for seed, threads in ((3, 1), (3, 2), (3, 3), (4, 1)):
        ours = native(id, 5, max_episode_steps=15, threads=threads)
        runs.append([ours.reset(seed=seed)[0], *trace(ours, 40)])
    for other in runs[1:3]:
        assert all(map(np.array_equal, runs[0], other))
    assert not all(map(np.array_equal, runs[0], runs[3]))


def equal(one: Step, other: Step) -> bool:
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in FIELDS)


@pytest.mark.parametrize("id", EVERY)
def test_interrupted_in_mid_episode_is_uninterrupted(id: str) -> None:
    settings = EnvSettings(id=id, count=3, mode="batch", options={"max_episode_steps": 19})
    through = make(settings)
    assert through.exact_resume and through.native
    through.reset(seed=11)
    actions = torch.randn(60, 3, through.action_size, generator=torch.manual_seed(0))
    for action in actions[:24]:
        through.step(action)
    buffer = io.BytesIO()
    torch.save(through.state(), buffer)
    buffer.seek(0)
    resumed = make(settings)
    assert torch.equal(resumed.restore(torch.load(buffer, weights_only=True)), through.obs)
    ends = 0
    for action in actions[24:]:
        one, other = through.step(action), resumed.step(action)
        assert equal(one, other)
        ends += int((one.terminated | one.truncated).sum())
    assert ends >= 3


@pytest.mark.parametrize("id", EVERY)
@pytest.mark.filterwarnings("ignore")
def test_a_state_that_is_not_finite_is_seen(id: str, capfd: pytest.CaptureFixture[str]) -> None:
    """MuJoCo, left to itself, resets such a simulation, and the policy would learn from the jump."""
    adapter = make(EnvSettings(id=id, count=3, mode="batch"))
    adapter.reset(seed=0)
    envs_of: Any = adapter._envs
    envs_of.runner.simulation.bind("qvel")[1, 0] = np.nan
    with pytest.raises(TrainingDiverged, match="environment 1 is not finite"):
        adapter.step(torch.zeros(3, adapter.action_size))
    assert "unstable" in capfd.readouterr().err
