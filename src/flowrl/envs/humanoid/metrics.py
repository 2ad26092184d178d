"""Tracking metrics of an episode: its success, how long it lasted, and distances to the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, ROOT

ARMS = slice(BODIES.index("right_upper_arm"), BODIES.index("left_hand") + 1)
LEGS = slice(BODIES.index("right_thigh"), BODIES.index("left_foot") + 1)
ERRORS = ("mpjpe_mm", "mpjpe_local_mm", "arms_mm", "legs_mm")


class TrackingMetrics:
    """The metrics of the present episodes of all rows.

    `success` is 1 unless the episode failed, by the rule in force. `alive_s` is its time without failure, and
    `strict_alive_s` its time with no body further than 0.25 m from its reference. The others are distances between a
    body and its reference, averaged over the bodies and the steps before the failure: in the world, and for
    `mpjpe_local_mm`, `arms_mm` and `legs_mm` relative to the roots (of all bodies, of 6 and of 6). The step that
    failed is excluded: a simulation that becomes unstable moves any distance. An episode that failed in its first
    step has no distances: they are NaN.
    """

    def __init__(self, count: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> None:
        self.alive = torch.zeros(count, dtype=torch.int64, device=device)  # steps without failure
        # steps before a body was too far
        self.strict = torch.zeros(count, dtype=torch.int64, device=device)
        self.near = torch.ones(count, dtype=torch.bool, device=device)  # whether none has been
        self.errors = torch.zeros(count, len(ERRORS), dtype=dtype, device=device)  # their sums, m
        self.failed = torch.zeros(count, dtype=torch.bool, device=device)

    def reset(self, rows: Tensor) -> None:
        """Begin new episodes in `rows`."""
        for counted in (self.alive, self.strict, self.errors, self.failed):
            counted[rows] = 0
        self.near[rows] = True

    def update(self, difference: Tensor, near: Tensor, failed: Tensor) -> None:
        """Add a step: own minus reference positions (count, 15, 3), and where (count,) bool all bodies are `near`
        theirs, or the episode has `failed`."""
        local = (difference - difference[:, ROOT, None]).norm(dim=2)
        errors = torch.stack(
            (difference.norm(dim=2).mean(1), local.mean(1), local[:, ARMS].mean(1), local[:, LEGS].mean(1)), dim=1
        )
        self.errors += torch.where(failed[:, None], 0, errors)
        self.failed = failed
        self.near &= near
        self.alive += ~failed
        self.strict += self.near

    def compute(self, rows: Tensor) -> dict[str, Tensor]:
        """Compute the metrics (rows,) of the episodes in `rows` so far, by name."""
        dtype = self.errors.dtype
        metrics = {
            "success": (~self.failed[rows]).to(dtype),
            "alive_s": self.alive[rows].to(dtype) / CONTROL_RATE,
            "strict_alive_s": self.strict[rows].to(dtype) / CONTROL_RATE,
        }
        means = 1000 * self.errors[rows] / self.alive[rows, None]
        return metrics | dict(zip(ERRORS, means.unbind(1), strict=True))
