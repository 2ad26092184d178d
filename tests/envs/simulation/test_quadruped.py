"""The quadruped of examples/: its body, its frames, its commands, and what is randomised."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl.config.recipe import read
from flowrl.config.schema import load
from flowrl.envs.simulation.task_env import vector_env
from flowrl.envs.simulation.vector_env import TaskVectorEnv

FOLDER = Path(__file__).parents[3] / "examples" / "quadruped"


@pytest.fixture(scope="module")
def kind() -> Any:
    spec = importlib.util.spec_from_file_location("quadruped_example", FOLDER / "quadruped.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["quadruped_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Quadruped


def made(kind: Any, count: int, **options: Any) -> tuple[TaskVectorEnv, Any]:
    env = vector_env(kind, count, 1, **options)
    return env, env.runner.task.user  # type: ignore[attr-defined]


def test_the_body_is_that_of_a_small_quadruped(kind: Any) -> None:
    _, task = made(kind, 1)
    assert 12 <= task.model.body_subtreemass[task.trunk] <= 15
    assert task.model.nu == 12 and task.dt == 0.02
    assert (task.model.actuator_forcerange == [-25, 25]).all()


def test_it_stands_on_the_targets_of_its_posture(kind: Any) -> None:
    env, task = made(kind, 4, disturbances=False, command_fixed=(0.0, 0.0, 0.0))
    env.reset_tensors(0)
    home = task.home.float().expand(4, -1)
    steps = [env.step_tensors(home) for _ in range(100)]
    assert not torch.stack([step.terminated for step in steps]).any()
    assert (task.qpos[:, 2] > 0.25).all() and (task.gravity[:, 2] < -0.99).all()
    # 0.5 + 2 + 1 + 0.5 per second at the most; it follows the command to stand, on four feet
    assert 3.9 * task.dt < steps[-1].reward.min() <= steps[-1].reward.max() <= 4 * task.dt


def test_velocity_and_gravity_are_in_the_frame_of_the_trunk(kind: Any) -> None:
    """Turned by 90° about z, forward is the world's y; rolled by 90° about x, down is the trunk's -y."""
    env, task = made(kind, 2)
    env.reset_tensors(0)
    half = 0.5**0.5
    task.qpos[0, 3:7] = task.constant([half, 0, 0, half])
    task.qpos[1, 3:7] = task.constant([half, half, 0, 0])
    task.qvel[:, :3] = task.constant([0.0, 2.0, 1.0])
    task.update()
    torch.testing.assert_close(task.velocity[0], task.constant([2.0, 0.0, 1.0]))
    torch.testing.assert_close(task.gravity[0], task.constant([0.0, 0.0, -1.0]))
    torch.testing.assert_close(task.gravity[1], task.constant([0.0, -1.0, 0.0]))


def test_a_robot_that_falls_over_ends_its_episode(kind: Any) -> None:
    env, task = made(kind, 2, disturbances=False)
    env.reset_tensors(0)
    task.qpos[0, 3:7] = task.constant([0.5**0.5, 0.5**0.5, 0, 0])  # on its side
    step = env.step_tensors(task.home.float().expand(2, -1))
    assert step.terminated.tolist() == [True, False]
    assert step.final_info["success"].tolist() == [False]


def test_commands_are_drawn_in_their_range_and_slow_ones_are_zero(kind: Any) -> None:
    env, task = made(kind, 400, fastest=(1.0, 0.5, 2.0))
    env.reset_tensors(0)
    command = task.command
    assert (command.abs() <= task.constant([1.0, 0.5, 2.0])).all() and command[:, 2].abs().max() > 1.9
    speed = command[:, :2].norm(dim=1)
    assert (speed[speed > 0] >= 0.2).all() and 30 < (speed == 0).sum() < 100


def test_the_stiffness_of_all_servos_of_a_robot_changes_by_one_factor(kind: Any) -> None:
    env, task = made(kind, 50)
    env.reset_tensors(0)
    gain, bias = task.model_field("actuator_gainprm")[:, :, 0], task.model_field("actuator_biasprm")[:, :, 1]
    factors = gain / 40
    assert torch.equal(gain, -bias) and (factors == factors[:, :1]).all()
    assert 0.9 <= factors.min() < 0.93 and 1.07 < factors.max() <= 1.1
    friction = task.model_field("geom_friction")[:, 0, 0]
    assert 0.5 <= friction.min() < 0.6 and 1.15 < friction.max() <= 1.25
    trunk = task.model_field("body_mass")[:, task.trunk] - 5.5
    assert -1 <= trunk.min() < -0.9 and 0.9 < trunk.max() <= 1


@pytest.mark.parametrize(("name", "algorithm"), [("fpo", "fpo"), ("fpopp", "fpo++"), ("ppo", "ppo")])
def test_the_recipes_are_valid(name: str, algorithm: str) -> None:
    config = load(read(FOLDER / f"quadruped_{name}.yaml"))
    assert (config.algorithm, config.env.id) == (algorithm, "examples/quadruped/quadruped.py:Quadruped")
