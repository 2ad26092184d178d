"""Environments: GridWorld, ten DM-Control tasks, a humanoid that imitates, and any Gymnasium id with Box spaces.

Importing this registers the `flowrl/…` ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from flowrl.envs.adapter import Adapter, EnvSettings, Step
    from flowrl.envs.factory import make

__all__ = ["Adapter", "EnvSettings", "Step", "make"]

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
            entry_point="flowrl.envs.suite.environment:SuiteEnv",
            vector_entry_point="flowrl.envs.suite.environment:SuiteVectorEnv",
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


def __getattr__(name: str) -> Any:
    """What needs torch, imported when first asked for: listing the environments does without."""
    if name in __all__:
        from flowrl.envs import adapter, factory

        return getattr(factory if name == "make" else adapter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
