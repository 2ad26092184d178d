"""A motion of the humanoid, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowrl.envs.humanoid.model import CONTROL_RATE, JOINTS

ROOT_SIZE = 7  # of a frame: position in m, unit quaternion w, x, y, z


@dataclass(frozen=True)
class Motion:
    """A motion at the humanoid's control rate, ready for tracking.

    Its joint angles lie within the joints' ranges and are continuous; the floor is at z = 0.
    Raises ValueError for frames of another shape, fewer than two of them, or numbers that are not finite.
    """

    name: str
    qpos: NDArray[np.float64]  # (frames, 35): root position and quaternion, 28 hinge angles in rad
    source: str = ""  # a gait's source or a file
    loops: bool = False  # whether the last frame continues with the first, displaced and rotated: see `unrolled`
    clamped: int = 0  # frames with an angle that was moved into its joint's range

    def __post_init__(self) -> None:
        if self.qpos.ndim != 2 or self.qpos.shape[1] != ROOT_SIZE + len(JOINTS):
            raise ValueError(f"frames are of shape {self.qpos.shape}, not (frames, {ROOT_SIZE + len(JOINTS)})")
        if len(self.qpos) < 2:
            raise ValueError("there are fewer than two frames")
        if not np.isfinite(self.qpos).all():
            raise ValueError("a number is not finite")

    @property
    def seconds(self) -> float:
        """Return the time from the first frame to the last, in s."""
        return (len(self.qpos) - 1) / CONTROL_RATE
