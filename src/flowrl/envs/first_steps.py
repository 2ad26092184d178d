"""What the first steps of a run show about an environment and that a user should know."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RANGED = 256  # steps whose observations are looked at
ENDLESS = 1000  # steps after which an environment without any end of an episode is reported
LEVELS = 64  # distinct values of an observation below which its steps may vanish
WHOLE = 2**24  # from here on float32 does not hold every whole number


class FirstSteps:
    """Counts the episodes that end, and the range of every observation, over the first steps of all environments."""

    def __init__(self, id: str, count: int, limit: int | None = None) -> None:
        self.id, self.count = id, count
        self.limit = limit or 0  # the known time limit of an episode: before it no end is expected
        self.steps = 0
        self.ended = False
        self.low: Tensor | None = None  # (observation,) float64
        self.high: Tensor | None = None
        self._reported: set[str] = set()

    def add(self, obs: Tensor, ended: bool) -> None:
        """Add the observations (count, observation) of a step, and whether an episode ended in it."""
        self.steps += 1
        self.ended = self.ended or ended
        if self.steps <= RANGED:
            low, high = torch.aminmax(obs, dim=0)
            self.low = low if self.low is None else torch.minimum(self.low, low)
            self.high = high if self.high is None else torch.maximum(self.high, high)

    def notes(self, *, single: bool, finished: bool) -> list[str]:
        """Return what has not been reported yet.

        `single` is whether the networks get observations that were rounded to float32 as they are; `finished` whether
        no more steps follow.
        """
        found = {}
        if not self.ended and self.steps > self.limit and (finished or self.steps >= ENDLESS):
            found["endless"] = (
                f"no episode of {self.id} ended in {self.steps:,} steps of each of its {self.count} environments, so "
                "there is no return to report and no best.pt. If it has no end of its own, give it a time limit: --set "
                "env.options.max_episode_steps=1000."
            )
        if single and (finished or self.steps >= RANGED) and (coarse := self._coarse()):
            found["coarse"] = coarse
        new = [text for name, text in found.items() if name not in self._reported]
        self._reported |= found.keys()
        return new

    def _coarse(self) -> str:
        """Return which observation varies by a few of float32's steps only, or ''."""
        if self.low is None or self.high is None:
            return ""
        low, high = self.low.double().numpy(), self.high.double().numpy()
        largest = np.maximum(np.abs(low), np.abs(high))
        step = np.spacing(largest.astype(np.float32)).astype(np.float64)
        varies = (high > low) & (high - low < LEVELS * step) & (largest > 1)
        rows = np.flatnonzero(varies | (largest >= WHOLE) & np.isfinite(largest))
        if not len(rows):
            return ""
        row = int(rows[0])
        return (
            f"observation {row} of {self.id} lies between {low[row]:.9g} and {high[row]:.9g}, where float32 has steps "
            f"of {step[row]:.3g}: smaller changes vanish. Subtract its offset, or declare the observation space "
            "float64, which flowrl keeps until observations are normalised."
        )
