"""Gymnasium's MuJoCo environments, version 5, on `mujoco.batch`: its models, its numbers, all rows in one step.

Observations, rewards and ends are Gymnasium's from equal states under equal actions (float32, as its action
spaces say); starts have its distribution, from torch's random numbers. Only the default arguments are known here.
"""

from __future__ import annotations

from typing import Any

from flowrl.envs.gymnasium_mujoco import ant, humanoid, locomotion, pendulum
from flowrl.envs.simulation.task import Task, TaskConstants
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv

TASKS: dict[str, tuple[type[Task[Any]], TaskConstants]] = {
    "Ant-v5": (ant.Ant, ant.ANT),
    "HalfCheetah-v5": (locomotion.Locomotion, locomotion.HALF_CHEETAH),
    "Hopper-v5": (locomotion.BalancedLocomotion, locomotion.HOPPER),
    "Humanoid-v5": (humanoid.Humanoid, humanoid.HUMANOID),
    "InvertedDoublePendulum-v5": (pendulum.DoublePendulum, pendulum.DOUBLE_PENDULUM),
    "InvertedPendulum-v5": (pendulum.Pendulum, pendulum.PENDULUM),
    "Swimmer-v5": (locomotion.Locomotion, locomotion.SWIMMER),
    "Walker2d-v5": (locomotion.BalancedLocomotion, locomotion.WALKER2D),
}
"""An id -> its task's class and numbers."""


def vector_env(
    id: str, num_envs: int, max_episode_steps: int | None = None, threads: int = 0, action_repeat: int = 1
) -> TaskVectorEnv:
    """`num_envs` environments of one of TASKS stepped together, on `threads` threads (0: all cores)."""
    kind, constants = TASKS[id]
    arena = TaskRunner(kind, constants, num_envs, threads)
    return TaskVectorEnv(arena, max_episode_steps, action_repeat=action_repeat)
