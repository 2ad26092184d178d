"""The table of all environment families: the one place that names them."""

from __future__ import annotations

from importlib import import_module

from flowrl.envs.family import Family

MODULES = (
    "flowrl.envs.gridworld",
    "flowrl.envs.dm_control.family",
    "flowrl.envs.humanoid.family",
    "flowrl.envs.gymnasium_mujoco.family",
)
"""A row per family: the module with its record `FAMILY`."""

FAMILIES: tuple[Family, ...] = tuple(import_module(name).FAMILY for name in MODULES)
NONE = Family(ids={}, vector_env="")
"""The record for environments of no family."""


def family_of(id: str) -> Family:
    """Return the record of the family that `id` belongs to, or `NONE`."""
    return next((family for family in FAMILIES if id in family.ids), NONE)
