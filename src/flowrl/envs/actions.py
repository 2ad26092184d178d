"""From the raw actions of a policy to actions that an environment's action space contains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

UNBOUNDED = 1e9
"""A bound from here on counts as none. Written numbers that mean 'no bound' begin at int32's largest, 2e9, and go to
float64's, 1.8e308; no actuator has such a range in any unit in use, and a policy whose actions are of the order of 1
would be scaled by it to values from which nothing can be learned."""


class ActionBounds:
    """Maps raw actions into the bounds of `space`, in its own precision, so that `space.contains` them.

    A raw action is squashed to [-1, 1] (clip or tanh) and scaled: a becomes centre + half·a, the same as
    low + (a + 1)/2·(high - low), but exact for symmetric bounds. A dimension without two bounds takes the raw action
    as it is, clipped to the one bound that it may have.
    """

    def __init__(self, space: spaces.Box, squash: Literal["clip", "tanh"]) -> None:
        self.squash = squash
        wide = space.dtype.itemsize > 4
        self.precision = torch.float64 if wide else torch.float32
        low, high = (side.astype(np.float64).reshape(-1) for side in (space.low, space.high))
        bounded = (low > -UNBOUNDED) & (high < UNBOUNDED)
        self.bounded = torch.from_numpy(bounded)
        self.all_bounded = bool(bounded.all())
        with np.errstate(all="ignore"):  # of the unbounded
            self.centre = torch.from_numpy(np.where(bounded, (low + high) / 2, 0.0)).to(self.precision)
            self.half = torch.from_numpy(np.where(bounded, (high - low) / 2, 1.0)).to(self.precision)
        largest = float(torch.finfo(self.precision).max) if space.dtype != np.float16 else 65504.0
        self.low = torch.from_numpy(np.maximum(low, -largest)).to(self.precision)
        self.high = torch.from_numpy(np.minimum(high, largest)).to(self.precision)
        sides = np.abs(np.concatenate([low, high]))
        ignored = sides[(sides >= UNBOUNDED) & np.isfinite(sides)]
        self.remark = ""
        if len(ignored):
            self.remark = (
                f"its action space has bounds of {ignored.max():.3g}: from {UNBOUNDED:.0e} on they count as none, and "
                "such a dimension takes the policy's raw action, of the order of 1."
            )

    def saved(self) -> dict[str, Any]:
        """Return what `of_saved` needs: the squash, the precision, and the bounds (action,) in float64."""
        return {
            "squash": self.squash,
            "precision": "float64" if self.precision == torch.float64 else "float32",
            "low": self.low.double(),
            "high": self.high.double(),
        }

    @classmethod
    def of_saved(cls, saved: Mapping[str, Any]) -> ActionBounds:
        """Make the bounds that `saved` describes."""
        low, high = (saved[side].numpy().astype(saved["precision"]) for side in ("low", "high"))
        return cls(spaces.Box(low, high, dtype=low.dtype.type), saved["squash"])

    def to(self, device: torch.device) -> ActionBounds:
        """Move the bounds to `device`."""
        for name in ("bounded", "centre", "half", "low", "high"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def __call__(self, action: Tensor) -> Tensor:
        """Map raw actions (count, action) float32 into the bounds, as a new tensor."""
        squashed = torch.tanh(action) if self.squash == "tanh" else action.clamp(-1, 1)
        if not self.all_bounded:
            squashed = torch.where(self.bounded, squashed, action)
        return torch.addcmul(self.centre, squashed.to(self.precision), self.half).clamp(self.low, self.high)
