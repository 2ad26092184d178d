"""The record of the DM-Control tasks (arXiv 1801.00690)."""

from __future__ import annotations

from flowrl.envs.family import Facts, Family, ReturnRange, task_facts

NAMES = (
    *("BallInCup", "CartpoleBalance", "CheetahRun", "FingerSpin", "FingerTurnEasy", "FingerTurnHard"),
    *("FishSwim", "PointMass", "ReacherEasy", "ReacherHard"),
)


def facts(id: str) -> Facts:
    """Return what a task's observation, reward and starts are, and its profiles."""
    from flowrl.envs.dm_control.environment import DMControlVectorEnv
    from flowrl.envs.dm_control.tasks import TASKS

    name = FAMILY.ids[id]["task"]
    task, profiles = TASKS[name]
    parts = DMControlVectorEnv(name, 1).runner.task.observation_parts
    return task_facts(task, parts, {"profile": list(profiles)})


FAMILY = Family(
    ids={f"flowrl/{task}-v0": {"task": task} for task in NAMES},
    env="flowrl.envs.dm_control.environment:DMControlEnv",
    vector_env="flowrl.envs.dm_control.environment:DMControlVectorEnv",
    max_episode_steps=1000,
    return_range=ReturnRange(0.0, 1000.0, "a control task's return"),  # 1000 steps of rewards in [0, 1]
    facts=facts,
)
