"""The noise that a policy turns into actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowrl.policies.noise_modes import NoiseMode


class Noise:
    """Normal noise for a policy: a new draw for every action, zero, or one fixed draw for all, times `scale`.

    With scale 1 the noise is N(0, 1), which a flow is trained with, and with 0 it is zero. The draws of one seed
    are the same at every scale in between.

    With a `correlation` ρ the draws of a row follow one another as z' = ρ z + √(1 - ρ²) ξ, ξ ~ N(0, 1): each is
    N(0, 1), so that the loss is the same (coloured noise in on-policy exploration, arXiv 2312.11091).
    """

    def __init__(self, size: int, mode: NoiseMode, seed: int, scale: float = 1.0, correlation: float = 0.0) -> None:
        self.mode: NoiseMode = mode if scale else "zero"
        self.scale = scale
        self.generator = torch.Generator().manual_seed(seed)
        self.correlation = correlation
        self.last: Tensor | None = None  # (rows, size): the draws of the last call, where they are correlated
        self._size = size
        self._fixed = torch.randn(1, size, generator=self.generator)

    def __call__(self, count: int) -> Tensor:
        """Return noise (count, size)."""
        if self.mode == "zero" or self.scale == 0:
            return torch.zeros(count, self._size)
        if self.mode == "random":
            draw = self._correlated(torch.randn(count, self._size, generator=self.generator))
        else:
            draw = self._fixed.repeat(count, 1)
        return draw if self.scale == 1 else draw.mul_(self.scale)

    def restart(self, rows: Tensor) -> None:
        """Let the next draws of `rows` (rows,) bool depend on none before."""
        if self.last is not None:
            self.last[rows] = math.nan

    def _correlated(self, fresh: Tensor) -> Tensor:
        if not self.correlation:
            return fresh
        if self.last is None or len(self.last) != len(fresh):
            self.last = torch.full_like(fresh, math.nan)
        following = self.correlation * self.last + math.sqrt(1 - self.correlation**2) * fresh
        self.last = torch.where(self.last.isnan(), fresh, following)
        return self.last.clone()
