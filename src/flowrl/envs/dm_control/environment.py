"""The two Gymnasium interfaces of a control task: one environment, and many stepped together."""

from __future__ import annotations

from typing import Any

from flowrl.envs.dm_control.tasks import find_task
from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.protocol import SimulationFactory
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv


class DMControlEnv(TaskEnv):
    """One environment of a control task.

    `profile` chooses its numbers: `dmc` for dm_control's, `playground` for those of MuJoCo Playground. The task never
    ends an episode: Gymnasium's TimeLimit, which `gymnasium.make` adds, truncates it after 1000 steps. Pictures
    are `height` x `width` from the model's `camera`, a name or a number; None: the task's own.
    """

    def __init__(
        self,
        task: str,
        profile: str = "dmc",
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
    ) -> None:
        runner = TaskRunner(*find_task(task, profile), count=1, threads=1)
        super().__init__(runner, render_mode, height, width, camera)


class DMControlVectorEnv(TaskVectorEnv):
    """`num_envs` environments of a control task stepped together; `profile` as in `DMControlEnv`.

    The other `options` are those of `TaskVectorEnv`: `max_episode_steps` (1000), `render_mode`, `height`, `width`,
    `camera`. Results do not depend on `threads` (0: all cores). `simulator` makes the simulations.
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        profile: str = "dmc",
        threads: int = 0,
        action_repeat: int = 1,
        simulator: SimulationFactory = MujocoBatch,
        **options: Any,
    ) -> None:
        runner = TaskRunner(*find_task(task, profile), num_envs, threads, simulator)
        super().__init__(runner, action_repeat=action_repeat, **options)
