"""Means of metrics over the minibatches of an update."""

from __future__ import annotations

import torch
from torch import Tensor


class Means:
    """Accumulates metrics over minibatches: means weighted by rows, extremes for names in `_min` and `_max`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor], rows: int) -> None:
        """Add `metrics`, scalars, each computed over `rows` rows."""
        for name, metric in metrics.items():
            value = metric.detach()
            if name not in self._sums:
                self._sums[name] = value if name.endswith(("_min", "_max")) else value * rows
                self._rows[name] = rows
            elif name.endswith("_min"):
                self._sums[name] = torch.minimum(self._sums[name], value)
            elif name.endswith("_max"):
                self._sums[name] = torch.maximum(self._sums[name], value)
            else:
                self._sums[name] = self._sums[name] + value * rows
                self._rows[name] += rows

    def values(self) -> dict[str, float]:
        """Return the mean, or the extreme, of every metric added."""
        return {
            name: float(value if name.endswith(("_min", "_max")) else value / self._rows[name])
            for name, value in self._sums.items()
        }
