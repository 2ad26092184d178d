"""Gymnasium's MuJoCo environments, version 5, on `mujoco.batch`: its models, its numbers, all rows together.

From equal states under equal actions (float32, as in its action spaces), observations, rewards and ends are
Gymnasium's; initial states have its distribution, from torch's random numbers. Only default arguments are supported.
"""

from __future__ import annotations

from typing import Any

from flowrl.envs.gymnasium_mujoco import ant, humanoid, locomotion, pendulum
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv

TASKS: dict[str, tuple[type[SimulationTask[Any]], TaskConstants]] = {
    "Ant-v5": (ant.Ant, ant.ANT),
    "HalfCheetah-v5": (locomotion.Locomotion, locomotion.HALF_CHEETAH),
    "Hopper-v5": (locomotion.PlanarLocomotion, locomotion.HOPPER),
    "Humanoid-v5": (humanoid.Humanoid, humanoid.HUMANOID),
    "InvertedDoublePendulum-v5": (pendulum.DoublePendulum, pendulum.DOUBLE_PENDULUM),
    "InvertedPendulum-v5": (pendulum.Pendulum, pendulum.PENDULUM),
    "Swimmer-v5": (locomotion.Locomotion, locomotion.SWIMMER),
    "Walker2d-v5": (locomotion.PlanarLocomotion, locomotion.WALKER2D),
}
"""An id -> the class and the numbers of its task."""


def vector_env(
    id: str, num_envs: int, max_episode_steps: int | None = None, threads: int = 0, action_repeat: int = 1
) -> TaskVectorEnv:
    """Make `num_envs` environments of one of TASKS stepped together, on `threads` threads (0: all cores)."""
    runner = TaskRunner(*TASKS[id], num_envs, threads)
    return TaskVectorEnv(runner, max_episode_steps, action_repeat)
