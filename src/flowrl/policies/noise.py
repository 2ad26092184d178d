"""The noise that a policy turns into actions."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.policies.noise_modes import NoiseMode


class Noise:
    """Standard normal noise for a policy: a new draw for every action, zero, or one fixed draw for all."""

    def __init__(self, size: int, mode: NoiseMode, seed: int) -> None:
        self.mode = mode
        self.generator = torch.Generator().manual_seed(seed)
        self._size = size
        self._fixed = torch.randn(1, size, generator=self.generator)

    def __call__(self, count: int) -> Tensor:
        """Return noise (count, size)."""
        if self.mode == "random":
            return torch.randn(count, self._size, generator=self.generator)
        if self.mode == "zero":
            return torch.zeros(count, self._size)
        return self._fixed.repeat(count, 1)
