"""A task of the user's on the fast simulation, as the two constructors that an environment of any other kind has."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from flowrl.envs.simulation import task_env
from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.protocol import SimulationFactory
from flowrl.envs.simulation.task import Task
from flowrl.envs.simulation.vector_env import TaskVectorEnv


def single(
    task: type[Task],
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
    camera: int | str | None = None,
    **options: Any,
) -> gymnasium.Env[Any, Any]:
    """Make one environment of `task` with its own limit on steps; `options` replace attributes of its class."""
    env = task_env.single_env(task, render_mode, height, width, camera, **options)
    return TimeLimit(env, env.runner.constants.episode_steps)


def together(
    task: type[Task],
    num_envs: int = 1,
    threads: int = 0,
    action_repeat: int = 1,
    simulator: SimulationFactory = MujocoBatch,
    height: int = 240,
    width: int = 320,
    camera: int | str | None = None,
    **options: Any,
) -> TaskVectorEnv:
    """Make `num_envs` environments of `task` stepped together, as `task_env.vector_env` does."""
    size: dict[str, Any] = {"height": height, "width": width, "camera": camera}
    return task_env.vector_env(
        task, num_envs, threads, action_repeat=action_repeat, simulator=simulator, **size, **options
    )
