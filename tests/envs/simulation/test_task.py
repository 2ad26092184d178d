"""What a subclass of `Task` gets without code of its own: resume, delays, noise, pushes, commands, measures."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.envs import saved_state
from flowrl.envs.adapter import Adapter
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.task_env import single_env, vector_env
from flowrl.envs.simulation.vector_env import TaskVectorEnv
from flowrl.envs.state_encoding import Decoder, Encoder, as_arrays, as_tensors
from tests.envs.simulation.own_tasks import Busy, Cart, Counter


def actions(steps: int, count: int) -> Tensor:
    return torch.rand(steps, count, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1


def run(env: TaskVectorEnv, chosen: Tensor) -> list[Tensor]:
    """All that the steps return, as one list of tensors."""
    found = []
    for action in chosen:
        step = env.step_tensors(action)
        found += [step.obs, step.reward, step.terminated, step.truncated, step.final_obs, *step.final_info.values()]
    return found


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def saved(env: TaskVectorEnv) -> Any:
    """The state as a checkpoint holds it."""
    return as_tensors(Encoder().encode(env.state()))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_with_everything_resumes_exactly_at_any_number_of_threads(threads: int) -> None:
    chosen = actions(90, 7)
    env = vector_env(Busy, 7, 1)
    env.reset_tensors(3)
    run(env, chosen[:40])
    state = saved(env)
    expected = run(env, chosen[40:])
    assert sum(len(each) for each in expected[4::5]) > 5  # episodes ended

    fresh = vector_env(Busy, 7, threads)
    saved_state.check(state, 7)
    saved_state.check_alike(state, saved(fresh))
    fresh.restore(Decoder().decode(as_arrays(state)))
    assert equal(run(fresh, chosen[40:]), expected)


def test_a_seed_gives_the_same_episodes_whatever_came_before() -> None:
    chosen, env = actions(30, 4), vector_env(Busy, 4, 1)
    env.reset_tensors(5)
    first = run(env, chosen)
    run(env, chosen)
    env.reset_tensors(5)
    assert equal(run(env, chosen), first)
    env.reset_tensors(6)
    assert not equal(run(env, chosen), first)


def test_views_lists_and_numbers_of_a_task_are_restored() -> None:
    env, fresh = vector_env(Busy, 3, 1), vector_env(Busy, 3, 1)
    env.reset_tensors(0)
    run(env, actions(20, 3))
    fresh.restore(Decoder().decode(as_arrays(saved(env))))
    old, new = (each.runner.task.user for each in (env, fresh))  # type: ignore[attr-defined]
    assert new.level == old.level == 5.0  # 20 steps of 0.25
    assert len(new.recent) == 3 and torch.equal(new.latest_tilt, old.latest_tilt)
    new.integral[:] = 7  # the view follows, and the simulation's fields are live
    assert torch.equal(new.first, torch.full((3,), 7.0, dtype=torch.float64))
    new.qpos[:, 0] = 0.3
    new.simulation.forward()
    assert new.x.flatten().tolist() == [0.3, 0.3, 0.3]


def test_trying_the_methods_leaves_no_trace() -> None:
    env = vector_env(Busy, 2, 1)
    task = env.runner.task.user  # type: ignore[attr-defined]
    assert task.level == 0.0 and task.recent == [] and not hasattr(task, "latest_tilt")
    assert torch.equal(task.qpos, torch.zeros(2, 2, dtype=torch.float64))


def test_models_are_randomised_from_the_nominal_one_at_every_reset() -> None:
    """Factors of 0.5 to 2 never add up, and the constants that MuJoCo derives from masses follow."""
    env = vector_env(Busy, 50, 1)
    task = env.runner.task.user  # type: ignore[attr-defined]
    nominal = task.model.body_mass[1:]
    for seed in range(4):
        env.reset_tensors(seed)
        factors = task.model_field("body_mass")[:, 1:] / task.constant(nominal)
        assert 0.5 <= factors.min() < 0.7 and 1.6 < factors.max() <= 2.0
    model = mujoco.MjModel.from_xml_string(task.xml)
    model.body_mass[:] = task.model_field("body_mass")[7].numpy()
    mujoco.mj_setConst(model, mujoco.MjData(model))
    inside = env.runner.simulation._batch  # type: ignore[attr-defined]
    np.testing.assert_array_equal(inside.expanded("dof_invweight0")[7], model.dof_invweight0)


def test_a_simulation_moves_as_the_model_with_its_values() -> None:
    env = vector_env(Busy, 3, 1)
    env.reset_tensors(2)
    task = env.runner.task.user  # type: ignore[attr-defined]
    model, data = env.runner.simulation._batch.get_model(1), mujoco.MjData(task.model)  # type: ignore[attr-defined]
    data.qpos, data.qvel, data.ctrl = task.qpos[1].numpy(), task.qvel[1].numpy(), task.ctrl[1].numpy()
    nominal = mujoco.MjData(task.model)
    nominal.qpos, nominal.qvel, nominal.ctrl = data.qpos, data.qvel, data.ctrl
    env.runner.simulation.step(5)
    for _ in range(5):
        mujoco.mj_step(model, data)
        mujoco.mj_step(task.model, nominal)
    np.testing.assert_allclose(task.qpos[1].numpy(), data.qpos, rtol=0, atol=1e-12)
    assert np.abs(nominal.qpos - data.qpos).max() > 1e-6


def test_a_keyframe_is_where_episodes_begin() -> None:
    env = vector_env(Cart, 2, 1, keyframe="tilted")
    np.testing.assert_array_equal(env.reset_tensors(0), [[0.5, 0.1, 0.0, 0.2]] * 2)
    assert env.runner.task.user.action.tolist() == [[0.25], [0.25]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("late", [0, 1, 3])
def test_observations_arrive_late_and_commands_do_not(late: int) -> None:
    env = vector_env(Counter, 2, 1, observation_late=late, command_s=0.04)
    assert env.reset_tensors(0)[0].tolist()[0] == 0
    rows = [env.step_tensors(torch.zeros(2, 1)).obs[0].tolist() for _ in range(8)]
    assert [row[0] for row in rows] == [max(0, step - late) for step in range(1, 9)]
    commands = [row[3] for row in rows]
    assert commands == [commands[0]] * 3 + [commands[0] + 1] * 4 + [commands[0] + 2]  # every 4 steps of 0.01 s


@pytest.mark.parametrize("late", [0, 2])
def test_actions_arrive_late(late: int) -> None:
    env = vector_env(Counter, 2, 1, action_late=late)
    env.reset_tensors(0)
    applied = [env.step_tensors(torch.full((2, 1), step / 10)).obs[0, 2].item() for step in range(1, 7)]
    np.testing.assert_allclose(applied, [max(0, step - late) / 10 for step in range(1, 7)], atol=1e-7)


def test_a_step_is_rewarded_for_the_command_that_was_seen_before_it() -> None:
    env = vector_env(Counter, 1, 1, command_s=0.03)
    seen = env.reset_tensors(0)[0, 3].item()
    for _ in range(10):
        step = env.step_tensors(torch.zeros(1, 1))
        assert step.reward.item() == seen
        seen = step.obs[0, 3].item()


def test_pushes_come_at_their_interval_and_the_first_one_anywhere_in_it() -> None:
    env = vector_env(Counter, 200, 1, push_s=0.1)  # 10 steps
    env.reset_tensors(0)
    counts = torch.stack([env.step_tensors(torch.zeros(200, 1)).obs[:, 1] for _ in range(40)])
    first = (counts > 0).int().argmax(0) + 1
    assert first.min() == 1 and first.max() == 10
    np.testing.assert_array_equal(counts[-1], ((40 - first) // 10 + 1).double())


def test_noise_is_uniform_and_on_its_part_only() -> None:
    env = vector_env(Counter, 500, 1, noise_width=0.3)
    env.reset_tensors(0)
    obs = env.step_tensors(torch.zeros(500, 1)).obs
    noise = obs[:, 1]
    assert noise.abs().max() <= 0.3 and abs(noise.std().item() - 0.3 / 3**0.5) < 0.01 and abs(noise.mean()) < 0.03
    assert obs[:, 0].unique().tolist() == [1.0]


def test_without_disturbances_nothing_is_added() -> None:
    env = vector_env(Busy, 3, 1, disturbances=False)
    env.reset_tensors(0)
    step = env.step_tensors(torch.ones(3, 1))
    task = env.runner.task.user  # type: ignore[attr-defined]
    np.testing.assert_array_equal(task.model_field("body_mass")[0], task.model.body_mass)
    assert torch.equal(step.obs[:, 0], task.qpos[:, 0]) and task.ctrl.tolist() == [[1.0]] * 3


def test_measures_are_means_over_the_steps_of_an_episode() -> None:
    env = vector_env(Busy, 2, 1, max_episode_steps=4, disturbances=False, limit=100.0)
    assert env.measures == ("error_m", "last_x")
    adapter = Adapter(env, EnvSettings(id="tests/Busy"))
    adapter.reset(0)
    task, errors = env.runner.task.user, []  # type: ignore[attr-defined]
    for number in range(4):
        command = task.command[:, 0].clone()
        final = adapter.step(torch.zeros(2, 1))
        errors.append((final.successor[:, 0] - command).abs())
        assert final.measures["error_m"].isnan().all() == (number < 3)
    torch.testing.assert_close(final.measures["error_m"].double(), torch.stack(errors).double().mean(0))
    torch.testing.assert_close(final.measures["last_x"], final.successor[:, 0])
    assert final.success.tolist() == [1.0, 1.0]


def test_options_are_the_plain_attributes_of_the_class() -> None:
    assert vector_env(Busy, 1, 1, limit=2).runner.task.user.limit == 2.0  # type: ignore[attr-defined]
    assert vector_env(Cart, 1, 1, substeps=5).runner.control_rate == 20
    with pytest.raises(UsageError, match=r"Busy has no option 'limits'. Did you mean 'limit'\?.*disturbances, limit"):
        vector_env(Busy, 1, 1, limits=2)
    with pytest.raises(UsageError, match=r"env.options.limit of Busy is a float, as 0.8, not 'far'"):
        vector_env(Busy, 1, 1, limit="far")


def test_an_attribute_with_the_name_of_a_constructors_argument_is_refused() -> None:
    class Door(Cart):
        height = 2.0  # m

    with pytest.raises(UsageError, match=r"Door\.height: .*Rename it"):
        vector_env(Door, 1, 1)


def test_the_single_environment_passes_gymnasiums_check() -> None:
    env = single_env(Busy)
    env.spec = None
    check_env(env, skip_render_check=True, skip_close_check=True)


def test_the_class_is_imported_when_it_is_asked_for() -> None:
    code = "import sys, flowrl.envs; assert 'torch' not in sys.modules; print(flowrl.envs.Task.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "flowrl.envs.simulation.task"


def test_a_task_is_drawn_without_code_of_its_own() -> None:
    env = vector_env(Cart, 2, 1, render_mode="rgb_array", height=40, width=60, keyframe="tilted")
    env.reset_tensors(0)
    pictures = env.render()
    assert pictures is not None and [picture.shape for picture in pictures] == [(40, 60, 3)] * 2
    assert np.ptp(pictures[0]) > 30  # something is to be seen
    env.close()
