"""Environments: GridWorld, ten DM-Control tasks, a humanoid that imitates, and any Gymnasium id with Box spaces.

Importing this registers the `flowrl/…` ids.
"""

from flowrl.envs import registration as _registration  # noqa: F401  for its effect
