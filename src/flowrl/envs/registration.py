"""The ids of flowrl's own environments, registered with Gymnasium when this is imported."""

from __future__ import annotations

import gymnasium

if "flowrl/GridWorld-v0" not in gymnasium.registry:
    gymnasium.register(
        id="flowrl/GridWorld-v0",
        entry_point="flowrl.envs.gridworld:GridWorldEnv",
        vector_entry_point="flowrl.envs.gridworld:GridWorldVectorEnv",
    )

SUITE = (
    *("BallInCup", "CartpoleBalance", "CheetahRun", "FingerSpin", "FingerTurnEasy", "FingerTurnHard"),
    *("FishSwim", "PointMass", "ReacherEasy", "ReacherHard"),
)

NATIVE = (
    *("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "InvertedDoublePendulum-v5"),
    *("InvertedPendulum-v5", "Swimmer-v5", "Walker2d-v5"),
)
"""Gymnasium's environments that flowrl steps itself, all rows together."""

for _task in SUITE:
    if f"flowrl/{_task}-v0" not in gymnasium.registry:
        gymnasium.register(
            id=f"flowrl/{_task}-v0",
            entry_point="flowrl.envs.dm_control.environment:DMControlEnv",
            vector_entry_point="flowrl.envs.dm_control.environment:DMControlVectorEnv",
            kwargs={"task": _task},
            max_episode_steps=1000,
        )

HUMANOID = "flowrl/HumanoidTrack-v0"

if HUMANOID not in gymnasium.registry:
    gymnasium.register(
        id=HUMANOID,
        entry_point="flowrl.envs.humanoid.environment:HumanoidTrackEnv",
        vector_entry_point="flowrl.envs.humanoid.environment:HumanoidTrackVectorEnv",
        max_episode_steps=300,
    )


def is_suite_task(id: str) -> bool:
    """Whether `id`, such as 'flowrl/CheetahRun-v0', is one of the DM-Control tasks."""
    return id.startswith("flowrl/") and id.removeprefix("flowrl/").rpartition("-v")[0] in SUITE
