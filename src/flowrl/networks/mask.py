"""What of an observation a network may see."""

from __future__ import annotations

from torch import Tensor, nn


class ObservationMask(nn.Module):
    """Multiplies the entries of a (normalised) observation that may not be seen by 0.

    `visible` (observation,) is true where they may; None shows everything. It is saved with the network.
    """

    def __init__(self, visible: Tensor | None = None) -> None:
        super().__init__()
        self.visible: Tensor | None
        self.register_buffer("visible", None if visible is None else visible.float())

    def forward(self, obs: Tensor) -> Tensor:
        """`obs` (..., observation) with 0 where it is not visible."""
        return obs if self.visible is None else obs * self.visible
