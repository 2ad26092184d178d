"""Running mean and variance of observations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Normaliser(nn.Module):
    """Shifts and scales observations by the mean and variance of all those seen so far.

    The statistics are float64 and merged batch by batch (Chan, Golub & LeVeque 1979, Stanford report
    STAN-CS-79-773), so that they are those of all the data; before the first batch they are 0 and 1. Without
    `enabled` observations pass unchanged and the statistics stay.
    """

    def __init__(self, size: int, *, enabled: bool = True, epsilon: float = 1e-5, limit: float = 10.0) -> None:
        super().__init__()
        self.enabled = enabled
        self.epsilon = epsilon
        self.limit = limit
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.zeros(size, dtype=torch.float64))
        self.sum_of_squares: Tensor = nn.Buffer(torch.zeros(size, dtype=torch.float64))
        self.shift: Tensor = nn.Buffer(torch.zeros(size), persistent=False)
        self.scale: Tensor = nn.Buffer(torch.ones(size), persistent=False)

    @property
    def variance(self) -> Tensor:
        """Variance (size,) of all observations seen, divided by their number; 1 before the first."""
        return torch.where(self.count > 0, self.sum_of_squares / self.count, 1.0)

    def forward(self, obs: Tensor) -> Tensor:
        """(obs - mean) / sqrt(variance + epsilon), kept within ±limit; shape (..., size) unchanged, float32.

        Observations in float64 are shifted and scaled in float64: their differences may be less than a step of float32.
        """
        if not self.enabled:
            return obs.float()
        if obs.dtype == torch.float64:
            scaled = (obs - self.mean) * (self.variance + self.epsilon).rsqrt()
            return scaled.clamp_(-self.limit, self.limit).float()
        return ((obs - self.shift) * self.scale).clamp_(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, obs: Tensor) -> None:
        """Add the observations (batch, size) to the statistics."""
        if not self.enabled:
            return
        rows = obs.double()
        mean = rows.mean(dim=0)
        self.merge(len(rows), mean, (rows - mean).square().sum(dim=0))

    @torch.no_grad()
    def merge(self, number: int, mean: Tensor, sum_of_squares: Tensor) -> None:
        """Add the statistics of `number` observations: their mean (size,), and the sum of squares about it (size,)."""
        if not self.enabled:
            return
        total = self.count + number
        delta = mean - self.mean
        self.sum_of_squares += sum_of_squares + delta.square() * self.count * number / total
        self.mean += delta * number / total
        self.count.copy_(total)
        self._refresh()

    def _refresh(self) -> None:
        self.shift.copy_(self.mean)
        self.scale.copy_((self.variance + self.epsilon).rsqrt())

    def _load_from_state_dict(self, *args: Any) -> None:  # what load_state_dict calls on every module
        super()._load_from_state_dict(*args)
        if self.count > 0:
            self._refresh()
