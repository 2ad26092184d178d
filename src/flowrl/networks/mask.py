"""The mask of the observation entries that a network sees."""

from __future__ import annotations

from torch import Tensor, nn


class ObservationMask(nn.Module):
    """Multiplies the hidden entries of a (normalised) observation by 0.

    `visible` (observation,) is true for the others; None hides nothing. It is saved with the network.
    """

    def __init__(self, visible: Tensor | None = None) -> None:
        super().__init__()
        self.visible: Tensor | None = None if visible is None else nn.Buffer(visible.float())

    def forward(self, obs: Tensor) -> Tensor:
        """Return `obs` (..., observation) with 0 where it is hidden."""
        return obs if self.visible is None else obs * self.visible
