"""Checks of what the methods of a public `Task` return: each failure is one paragraph with class and method."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed


class TaskChecks:
    """Checks the results of the task `name` over `count` simulations; each method raises EnvironmentFailed."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def part(self, label: str, value: Any, dtype: torch.dtype) -> Tensor:
        """Return a part of an observation as (count, size) of `dtype`."""
        tensor = self._tensor(label, value)
        if tensor.shape == (self.count,):
            tensor = tensor[:, None]
        if tensor.ndim != 2 or tensor.shape[0] != self.count:
            raise self._shape(label, tensor, f"({self.count}, size): a row for each simulation")
        return tensor if tensor.dtype == dtype else tensor.to(dtype)

    def numbers(self, label: str, value: Any, dtype: torch.dtype, unstable: Tensor | None) -> Tensor:
        """Return finite numbers (count,) of `dtype`, with 0 where (count,) bool the simulation is `unstable`."""
        tensor = self._tensor(label, value)
        if tensor.shape != (self.count,):
            raise self._shape(label, tensor, f"({self.count},): a number for each simulation")
        tensor = tensor if tensor.dtype == dtype else tensor.to(dtype)
        if unstable is not None:
            tensor = tensor.masked_fill(unstable, 0)
        self.finite(label, tensor)
        return tensor

    def finite(self, label: str, tensor: Tensor) -> None:
        """Raise unless `tensor` (count, …) is finite."""
        if math.isfinite(tensor.sum().item()):  # quick; an overflow of the sum fails it, too
            return
        bad = ~tensor.isfinite()
        rows = bad.flatten(1).any(1) if tensor.ndim > 1 else bad
        if not rows.any():
            return
        column = f", column {int(bad[rows][0].nonzero()[0])}" if tensor.ndim > 1 else ""
        raise EnvironmentFailed(
            f"{self.name}.{label} returned {tensor[bad][0].item()} for simulation {int(rows.nonzero()[0])}{column}, "
            "whose physics are finite. Look for a division by zero, a root or logarithm of a negative number, or an "
            "exponential that overflows."
        )

    def flags(self, label: str, value: Any) -> Tensor:
        """Return booleans (count,)."""
        tensor = self._tensor(label, value)
        if tensor.shape != (self.count,):
            raise self._shape(label, tensor, f"({self.count},): a flag for each simulation")
        if tensor.dtype != torch.bool:
            raise EnvironmentFailed(
                f"{self.name}.{label} returned {_kind(tensor)}, not bool. Write a comparison, such as self.qpos[:, 2] "
                "< 0.2."
            )
        return tensor

    def rows(self, label: str, value: Any, rows: int, before: Tensor) -> Tensor:
        """Return commands (rows, size), of the size of `before` (count, size) unless that is empty."""
        tensor = self._tensor(label, value)
        size = before.shape[1]
        if tensor.ndim != 2 or tensor.shape[0] != rows or (size and tensor.shape[1] != size):
            raise self._shape(label, tensor, f"({rows}, {size or 'command'}): a row for each of its `rows`")
        self.finite(label, tensor)
        return tensor.to(before.dtype)

    def seconds(self, label: str, value: Any, rows: int) -> Tensor:
        """Return positive seconds (rows,) float64, which may be infinite."""
        tensor = torch.as_tensor(value, dtype=torch.float64).expand(rows) if _is_number(value) else value
        tensor = self._tensor(label, tensor)
        if tensor.shape != (rows,):
            raise self._shape(label, tensor, f"({rows},): seconds for each of its `rows`, or one number")
        if not bool((tensor > 0).all()):
            raise EnvironmentFailed(
                f"{self.name}.{label} returned {tensor.min().item()}: it must be above 0 s, or math.inf for never."
            )
        return tensor.to(torch.float64)

    def delays(self, label: str, value: Any, rows: int) -> Tensor:
        """Return delays (rows,) int64 of 0 to 1000 control steps."""
        tensor = torch.as_tensor(value).expand(rows) if isinstance(value, int) else value
        tensor = self._tensor(label, tensor)
        if tensor.shape != (rows,) or tensor.is_floating_point():
            raise self._shape(label, tensor, f"({rows},) int64: control steps for each of its `rows`, or one number")
        if bool(((tensor < 0) | (tensor > 1000)).any()):
            raise EnvironmentFailed(
                f"{self.name}.{label} returned {tensor.min().item()} to {tensor.max().item()}: a delay is 0 to 1000 "
                "control steps."
            )
        return tensor.to(torch.int64)

    def _tensor(self, label: str, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise EnvironmentFailed(
                f"{self.name}.{label} returned {'nothing' if value is None else f'a {type(value).__name__}'}, not a "
                "torch tensor with a row for each simulation."
            )
        return value

    def _shape(self, label: str, tensor: Tensor, wanted: str) -> EnvironmentFailed:
        return EnvironmentFailed(f"{self.name}.{label} returned {_kind(tensor)}, not the shape {wanted}.")


def _kind(tensor: Tensor) -> str:
    return f"a tensor {tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
