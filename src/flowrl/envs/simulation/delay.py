"""Numbers that arrive some control steps late, by another delay in every simulation."""

from __future__ import annotations

import torch
from torch import Tensor


class Delay:
    """Delays rows (count, size) by `steps` (count,) control steps each, which are set at an episode's start."""

    def __init__(self, count: int, device: torch.device | None = None) -> None:
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self._rows = torch.arange(count, device=device)
        self.history = torch.empty(0)  # (depth, count, size), the newest first; (0,) before the first numbers

    def begin(self, rows: Tensor, steps: Tensor, values: Tensor) -> None:
        """Let `values` (rows, size) be all that `rows` have had so far, and delay them by `steps` (rows,) from now."""
        if self.history.ndim == 1:
            self.history = values.new_zeros(1, len(self.steps), values.shape[1])
        missing = int(steps.max()) + 1 - len(self.history) if len(steps) else 0
        if missing > 0:
            self.history = torch.cat((self.history, self.history[-1:].expand(missing, -1, -1)))
        self.steps[rows] = steps.to(self.steps.device)
        self.history[:, rows] = values

    def __call__(self, values: Tensor) -> Tensor:
        """Take the newest `values` (count, size) and return those of `steps` control steps ago."""
        if self.history.shape[0] == 1:  # none was ever late
            return values
        self.history = torch.cat((values[None], self.history[:-1]))
        return self.history[self.steps, self._rows]
