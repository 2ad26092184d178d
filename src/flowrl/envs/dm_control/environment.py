"""Gymnasium's two views of a control task: one environment, and many stepped together."""

from __future__ import annotations

from flowrl.envs.dm_control.tasks import chosen
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv


class DMControlEnv(TaskEnv):
    """One environment of a control task.

    `profile` chooses its numbers: `dmc` for dm_control's, `playground` for those of MuJoCo Playground. An episode
    has no end of its own: Gymnasium's TimeLimit, which `gymnasium.make` puts around it, truncates it after 1000
    steps. Pictures are `height` x `width` from the model's `camera`, a name or a number; None: the
    task's own.
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
        kind, constants = chosen(task, profile)
        arena = TaskRunner(kind, constants, count=1, threads=1)
        super().__init__(arena, render_mode, (height, width, constants.camera if camera is None else camera))


class DMControlVectorEnv(TaskVectorEnv):
    """`num_envs` environments of a control task stepped together; options as in `DMControlEnv`.

    Episodes have 1000 steps, or `max_episode_steps`. An action is held for `action_repeat` of them, and the rewards
    are summed. Results do not depend on `threads` (0: all cores).
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        profile: str = "dmc",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
        threads: int = 0,
        action_repeat: int = 1,
    ) -> None:
        kind, constants = chosen(task, profile)
        arena = TaskRunner(kind, constants, num_envs, threads)
        picture = (height, width, constants.camera if camera is None else camera)
        super().__init__(arena, max_episode_steps, render_mode, picture, action_repeat)
