"""The observation of a public `Task`: its parts, the command, noise and delay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, UsageError, did_you_mean
from flowrl.envs.simulation.task import Task
from flowrl.envs.simulation.task_checks import TaskChecks


class TaskObservation:
    """Builds the observations of `task`, whose methods are called by `call`; call `prepare` first."""

    def __init__(self, task: Task, call: Callable[..., Any], checks: TaskChecks) -> None:
        self.sizes: dict[str, int] = {}  # of the parts, in order
        self._task, self._call, self._checks = task, call, checks
        self._size = 0
        self._sensed = torch.zeros(0, dtype=torch.bool)  # (observation,) what is delayed
        self._noise: Tensor | None = None  # (observation,) half its width

    def prepare(self) -> None:
        """Keep the sizes of the parts, what is delayed, and the width of the noise.

        Raises UsageError for a part in `noise` or `known_parts` that the observation does not have.
        """
        task = self._task
        self.sizes = {name: part.shape[1] for name, part in self._parts().items()}
        self._size = sum(self.sizes.values())
        known = {*task.known_parts, "command"}
        self._sensed = torch.cat(
            [torch.full((size,), name not in known, device=task.qpos.device) for name, size in self.sizes.items()]
        )
        widths = self._call("noise") if task.disturbances else {}
        self._check_names("noise", widths)
        self._check_names("known_parts", task.known_parts)
        noise = torch.cat([self._width(name, size, widths.get(name, 0.0)) for name, size in self.sizes.items()])
        self._noise = noise if noise.any() else None

    def exact(self) -> Tensor:
        """Return the observations without noise and delay as a new tensor (count, observation)."""
        seen = torch.cat(tuple(self._parts().values()), 1)
        if seen.shape[1] != self._size:
            raise EnvironmentFailed(
                f"{type(self._task).__name__}.observation returned {seen.shape[1]} numbers for each simulation, and "
                f"{self._size} when the environment was made: their number must not change."
            )
        return seen

    def noisy(self, seen: Tensor) -> Tensor:
        """Add noise to observations (rows, observation), in place."""
        if self._noise is None:
            return seen
        draws = torch.rand(seen.shape, dtype=torch.float64, generator=self._task.random).to(seen)
        return seen.addcmul_(draws.mul_(2).sub_(1), self._noise)

    def late(self, seen: Tensor, before: Tensor) -> Tensor:
        """Return `seen` (count, observation) with what is sensed replaced by that of `before`, its delayed form."""
        return seen if before is seen else torch.where(self._sensed, before, seen)

    def _parts(self) -> dict[str, Tensor]:
        """Return the parts (count, size) of an observation by name, the command included."""
        task = self._task
        seen = self._call("observation")
        if isinstance(seen, Mapping):
            parts = {
                name: self._checks.part(f"observation ({name})", part, task.qpos.dtype) for name, part in seen.items()
            }
        else:
            parts = {"observation": self._checks.part("observation", seen, task.qpos.dtype)}
        if task.command.shape[1] and "command" not in parts:
            parts["command"] = task.command
        if not parts:
            raise EnvironmentFailed(f"{type(task).__name__}.observation returned no parts: there is nothing to see.")
        return parts

    def _check_names(self, method: str, names: Any) -> None:
        for name in names:
            if name not in self.sizes:
                raise UsageError(
                    f"{type(self._task).__name__}.{method}: the observation has no part {name!r}."
                    f"{did_you_mean(name, self.sizes)} It has {', '.join(self.sizes)}."
                )

    def _width(self, name: str, size: int, value: Any) -> Tensor:
        width = torch.as_tensor(value).to(self._task.qpos)
        if width.shape not in ((), (size,)) or not bool((width >= 0).all()):
            raise UsageError(
                f"{type(self._task).__name__}.noise: {name!r} has {size} columns, so its noise is one number or "
                f"{size}, none below 0, not {value!r}."
            )
        return width.expand(size)
