"""What is counted of a running episode, and told at its end."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, ROOT

ARMS = slice(BODIES.index("right_upper_arm"), BODIES.index("left_hand") + 1)
LEGS = slice(BODIES.index("right_thigh"), BODIES.index("left_foot") + 1)
ERRORS = ("mpjpe_mm", "mpjpe_local_mm", "arms_mm", "legs_mm")
MEASURES = ("alive_s", "strict_alive_s", *ERRORS)
"""What is told of an episode besides its success."""


class TrackingMetrics:
    """The running episodes of all rows.

    `success` is 1 unless the episode failed, by the rule in force. `alive_s` is how long it did not, and
    `strict_alive_s` how long no body was further than 0.25 m from its reference. The others are distances between a
    body and its reference, averaged over the bodies and the steps before the failure: as they are, and for
    `mpjpe_local_mm`, `arms_mm` and `legs_mm` as seen from the roots (of all bodies, of 6 and of 6). The step that
    failed is not among them: a simulation on its way to be lost is flung any distance. An episode that failed
    in its first step has no distances: they are NaN.
    """

    def __init__(self, count: int) -> None:
        self.alive = torch.zeros(count, dtype=torch.int64)  # steps without failure
        self.strict = torch.zeros(count, dtype=torch.int64)  # steps before a body was too far
        self.near = torch.ones(count, dtype=torch.bool)  # whether none has been
        self.errors = torch.zeros(count, len(ERRORS), dtype=torch.float64)  # their sums, m
        self.failed = torch.zeros(count, dtype=torch.bool)

    def begin(self, rows: Tensor) -> None:
        """New episodes in `rows`."""
        for counted in (self.alive, self.strict, self.errors, self.failed):
            counted[rows] = 0
        self.near[rows] = True

    def add(self, difference: Tensor, near: Tensor, failed: Tensor) -> None:
        """One step: own minus reference places (count, 15, 3), and where (count,) all bodies are `near` theirs, or
        the episode has `failed`."""
        local = (difference - difference[:, ROOT, None]).norm(dim=2)
        errors = torch.stack(
            (
                difference.norm(dim=2).mean(1),
                local.mean(1),
                local[:, ARMS].mean(1),
                local[:, LEGS].mean(1),
            ),
            dim=1,
        )
        self.errors += torch.where(failed[:, None], 0, errors)
        self.failed = failed
        self.near &= near
        self.alive += ~failed
        self.strict += self.near

    def numbers(self, rows: Tensor) -> dict[str, Tensor]:
        """What is told of the episodes in `rows` so far, (rows,) each."""
        told = {
            "success": (~self.failed[rows]).double(),
            "alive_s": self.alive[rows].double() / CONTROL_RATE,
            "strict_alive_s": self.strict[rows].double() / CONTROL_RATE,
        }
        means = 1000 * self.errors[rows] / self.alive[rows, None]
        return told | dict(zip(ERRORS, means.unbind(1), strict=True))
