"""The noise that a policy turns into actions."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.policies.noise_modes import NoiseMode


class Noise:
    """Normal noise for a policy: a new draw for every action, zero, or one fixed draw for all, times `scale`.

    With scale 1 the noise is N(0, 1), which a flow is trained with, and with 0 it is zero. The draws of one seed
    are the same at every scale in between.
    """

    def __init__(self, size: int, mode: NoiseMode, seed: int, scale: float = 1.0) -> None:
        self.mode: NoiseMode = mode if scale else "zero"
        self.scale = scale
        self.generator = torch.Generator().manual_seed(seed)
        self._size = size
        self._fixed = torch.randn(1, size, generator=self.generator)

    def __call__(self, count: int) -> Tensor:
        """Return noise (count, size)."""
        if self.mode == "zero" or self.scale == 0:
            return torch.zeros(count, self._size)
        if self.mode == "random":
            draw = torch.randn(count, self._size, generator=self.generator)
        else:
            draw = self._fixed.repeat(count, 1)
        return draw if self.scale == 1 else draw.mul_(self.scale)
