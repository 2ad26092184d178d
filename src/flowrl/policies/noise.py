"""Where a policy's noise comes from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NoiseMode = Literal["random", "zero", "fixed"]


class Noise:
    """Standard normal noise as a policy wants it: drawn anew for every action, zero, or one fixed draw."""

    def __init__(self, size: int, mode: NoiseMode, seed: int) -> None:
        self.mode = mode
        self.generator = torch.Generator().manual_seed(seed)
        self._size = size
        self._fixed = torch.randn(1, size, generator=self.generator)

    def __call__(self, count: int) -> Tensor:
        """Noise (count, size)."""
        if self.mode == "random":
            return torch.randn(count, self._size, generator=self.generator)
        if self.mode == "zero":
            return torch.zeros(count, self._size)
        return self._fixed.repeat(count, 1)
