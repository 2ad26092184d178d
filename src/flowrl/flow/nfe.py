"""The number of function evaluations (NFE) of a sampler, by counting."""

from __future__ import annotations

from torch import Tensor

from flowrl.contracts.protocols import Velocity


class CountingVelocity:
    """A velocity that counts how often it is evaluated."""

    def __init__(self, velocity: Velocity) -> None:
        self.nfe = 0
        self._velocity = velocity

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.nfe += 1
        return self._velocity(x, t)
