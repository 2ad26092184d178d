"""Means of metrics over the minibatches of an update."""

from __future__ import annotations

import torch
from torch import Tensor

_EXTREMES = {"_min": torch.minimum, "_max": torch.maximum}


class Means:
    """Accumulates metrics over minibatches: means weighted by rows, extremes for names in `_min` and `_max`."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}  # sums, or extremes
        self._rows: dict[str, int] = {}  # of the sums

    def add(self, metrics: dict[str, Tensor], rows: int) -> None:
        """Add `metrics`, scalars, each computed over `rows` rows."""
        for name, metric in metrics.items():
            combine = _EXTREMES.get(name[-4:], torch.add)
            value = metric.detach()
            if combine is torch.add:
                value = value * rows
                self._rows[name] = self._rows.get(name, 0) + rows
            self._values[name] = combine(self._values[name], value) if name in self._values else value

    def values(self, **also: Tensor) -> dict[str, float]:
        """Return the mean, or the extreme, of every metric added, and the scalars `also`, all read at once."""
        means = {name: value / self._rows.get(name, 1) for name, value in self._values.items()} | also
        return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True)) if means else {}
