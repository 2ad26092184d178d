"""The tensor interface of the vector environment beside Gymnasium's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowrl.envs.dm_control.environment import DMControlVectorEnv
from flowrl.envs.humanoid.environment import HumanoidTrackVectorEnv
from flowrl.envs.simulation.vector_env import TaskVectorEnv


def environment(name: str, repeat: int) -> TaskVectorEnv:
    if name == "HumanoidTrack":
        return HumanoidTrackVectorEnv(5, motions=["gait:walk", "gait:stand"], max_episode_steps=30)
    return DMControlVectorEnv(name, 5, max_episode_steps=9, action_repeat=repeat)


@pytest.mark.parametrize(("name", "repeat"), [("CheetahRun", 1), ("CheetahRun", 4), ("HumanoidTrack", 1)])
def test_the_tensors_are_the_arrays_of_gymnasiums_step(name: str, repeat: int) -> None:
    """The same seeds and actions; rows end at different steps."""
    arrays, tensors = environment(name, repeat), environment(name, repeat)
    observation, _ = arrays.reset(seed=3)
    np.testing.assert_array_equal(tensors.reset_tensors(3), observation)
    np.testing.assert_array_equal(arrays.stagger(), tensors.stagger())
    random, ends = np.random.default_rng(0), 0
    for _ in range(40):
        actions = random.uniform(-1, 1, arrays.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, infos = arrays.step(actions)
        step = tensors.step_tensors(torch.from_numpy(actions))
        for tensor, array in (
            (step.obs, observation),
            (step.reward, reward),
            (step.terminated, terminated),
            (step.truncated, truncated),
        ):
            np.testing.assert_array_equal(tensor, array)
        rows = np.flatnonzero(terminated | truncated)
        np.testing.assert_array_equal(step.ended, rows)
        assert step.ended.dtype == torch.int64 and len(step.final_obs) == len(rows)
        if len(rows):
            ends += 1
            np.testing.assert_array_equal(step.final_obs, np.stack(infos["final_obs"][rows]))
            reported = {key for key in infos["final_info"] if not key.startswith("_")}
            assert step.final_info.keys() == reported
            for key, values in step.final_info.items():
                np.testing.assert_array_equal(values, infos["final_info"][key][rows])
        else:
            assert infos == step.final_info == {}
    assert ends > 5


def test_the_next_step_leaves_the_tensors_of_the_last_one_as_they_are() -> None:
    env = environment("CheetahRun", 1)
    env.reset_tensors(0)
    steps = [env.step_tensors(torch.zeros(5, 6)) for _ in range(2)]
    assert not torch.equal(steps[0].obs, steps[1].obs)
    env.reset_tensors(0)
    again = env.step_tensors(torch.zeros(5, 6))
    assert torch.equal(again.obs, steps[0].obs) and torch.equal(again.terminated, steps[0].terminated)
