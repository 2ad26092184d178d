"""The two Gymnasium interfaces of a task class of one's own: one environment, and many stepped together."""

from __future__ import annotations

from typing import Any

from flowrl.envs.simulation import task_options
from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.protocol import SimulationFactory
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task import Task
from flowrl.envs.simulation.task_driver import DrivenConstants, TaskDriver, TaskKind
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv


def vector_env(
    task: type[Task],
    num_envs: int = 1,
    threads: int = 0,
    *,
    action_repeat: int = 1,
    simulator: SimulationFactory = MujocoBatch,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
    camera: int | str | None = None,
    **options: Any,
) -> TaskVectorEnv:
    """Make `num_envs` environments of `task`, stepped together on `threads` threads (0: all cores) of `simulator`.

    `options` replace attributes of the class, such as `disturbances=False`; the others are those of `TaskVectorEnv`.
    `measures` of the result are the names of what it reports of every episode. Raises UsageError for an option, a
    model or a method that cannot be used, and EnvironmentFailed for a method that fails.
    """
    made = runner(task, num_envs, threads, options, simulator)
    envs = TaskVectorEnv(made, max_episode_steps, action_repeat, render_mode, height, width, camera)
    assert isinstance(envs.runner.task, TaskDriver)  # noqa: S101  for mypy
    envs.measures = envs.runner.task.measures
    return envs


def single_env(
    task: type[Task],
    render_mode: str | None = None,
    height: int = 240,
    width: int = 320,
    camera: int | str | None = None,
    **options: Any,
) -> TaskEnv:
    """Make one environment of `task`, without a limit on its steps; the arguments are those of `vector_env`."""
    return TaskEnv(runner(task, 1, 1, options), render_mode, height, width, camera)


def runner(
    task: type[Task], count: int, threads: int, options: dict[str, Any], simulator: SimulationFactory = MujocoBatch
) -> TaskRunner:
    """Make the simulations and the driver of `task`."""
    values = task_options.checked(task, options)
    numbers = {name: values.get(name, getattr(task, name)) for name in ("substeps", "episode_steps", "camera")}
    return TaskRunner(TaskKind(task), DrivenConstants(**numbers, options=values), count, threads, simulator)
