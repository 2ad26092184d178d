"""Environments: GridWorld, ten DM-Control tasks, a humanoid, any Gymnasium id with continuous actions, and your own.

Importing this registers the `flowrl/…` ids. `Task` is the class with which a task on a robot of one's own is written;
it is imported when it is first asked for, because it needs torch and MuJoCo.
"""

from typing import TYPE_CHECKING, Any

from flowrl.envs import registration as _registration  # noqa: F401  for its effect

if TYPE_CHECKING:
    from flowrl.envs.simulation.task import Task

__all__ = ["Task"]


def __getattr__(name: str) -> Any:
    if name == "Task":
        from flowrl.envs.simulation.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
