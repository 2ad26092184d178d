"""Means of metrics over the minibatches of an update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowrl.training.shards import Shards

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


def over_all(parts: Sequence[Means], shards: Shards, **also: Tensor) -> dict[str, float]:
    """Return the mean, or the extreme, of every metric over all shards, and the scalars `also`, all read at once;
    `parts` are the metrics of the own shards."""
    if shards.count == 1:
        return parts[0].values(**also)
    rows = parts[0]._rows
    means = [name for name in parts[0]._values if name in rows]
    extremes = [name for name in parts[0]._values if name not in rows]
    found: dict[str, Tensor] = {}
    if means:
        total = shards.total([torch.stack([part._values[name] for name in means]) for part in parts])
        found |= {name: value / (shards.count * rows[name]) for name, value in zip(means, total, strict=True)}
    if extremes:
        signs = [-1.0 if name.endswith("_min") else 1.0 for name in extremes]
        signed = zip(extremes, signs, strict=True)
        own = torch.stack([torch.stack([sign * part._values[name] for part in parts]) for name, sign in signed])
        largest = shards.largest(own.amax(dim=1))
        found |= {name: sign * value for name, sign, value in zip(extremes, signs, largest, strict=True)}
    ordered = {name: found[name] for name in parts[0]._values} | also
    return dict(zip(ordered, torch.stack([value.float() for value in ordered.values()]).tolist(), strict=True))
