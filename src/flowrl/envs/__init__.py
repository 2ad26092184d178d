"""Environments: GridWorld, ten DM-Control tasks, a humanoid, and any Gymnasium id with continuous actions.

Importing this registers the `flowrl/…` ids.
"""

from flowrl.envs import registration as _registration  # noqa: F401  for its effect
