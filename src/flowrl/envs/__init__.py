"""Environments: GridWorld, and any Gymnasium id with Box spaces. Importing this registers `flowrl/…` ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from flowrl.envs.vector import EnvSettings, Simulation, Step, make

__all__ = ["EnvSettings", "Simulation", "Step", "make"]

if "flowrl/GridWorld-v0" not in gymnasium.registry:
    gymnasium.register(
        id="flowrl/GridWorld-v0",
        entry_point="flowrl.envs.gridworld:GridWorldEnv",
        vector_entry_point="flowrl.envs.gridworld:GridWorldVectorEnv",
    )


def __getattr__(name: str) -> Any:
    """The adapter's names, imported when first asked for: it needs torch, listing the environments does not."""
    if name in __all__:
        from flowrl.envs import vector

        return getattr(vector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
