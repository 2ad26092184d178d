"""Events that come at another time in every simulation, such as pushes."""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = 2**40  # control steps


class Timer:
    """The control step at which the next event of each of `count` simulations is due."""

    def __init__(self, count: int, device: torch.device | None = None) -> None:
        self.clock = 0  # control steps since the environment was made
        self.next = NEVER  # the earliest of all, so that most steps compare two numbers only
        self.at = torch.full((count,), NEVER, device=device)  # (count,) int64

    def set(self, rows: Tensor, steps: Tensor) -> None:
        """Let the next event of `rows` be due in `steps` (rows,) int64 control steps."""
        self.at[rows] = self.clock + steps.to(self.at.device)
        self.next = int(self.at.min())

    def advance(self) -> Tensor | None:
        """Advance by a control step and return the rows that are due, if any are; `set` them again."""
        self.clock += 1
        return (self.at <= self.clock).nonzero().flatten() if self.clock >= self.next else None
