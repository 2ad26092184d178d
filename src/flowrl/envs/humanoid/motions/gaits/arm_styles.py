"""Compute the arms' joint angles of a gait, in one of six styles."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from flowrl.envs.humanoid.model import Side
from flowrl.envs.humanoid.motions.quaternions import Array

Style = Literal["swing", "still", "raised", "spread", "forward", "wave"]
STYLES: tuple[Style, ...] = get_args(Style)

# Degrees of the right arm: shoulder about x (outwards is negative), y (forwards is negative), z, and elbow.
POSES: dict[str, tuple[float, float, float, float]] = {
    "swing": (-7, 0, 0, -25),
    "still": (-7, 0, 0, -8),
    "raised": (-155, 0, 0, -15),
    "spread": (-82, 0, 0, -8),
    "forward": (-5, -75, 0, -15),
    "wave": (-100, 0, -80, -70),  # the right arm; the left one is still
}
WAVE = 30.0  # degrees by which a waving forearm goes to either side
WAVE_RATE = 1.0  # Hz, about
SWING = (10.0, 20.0)  # degrees of amplitude in place, and degrees per m/s added to it


def angles(style: Style, side: Side, phase: Array, time: Array, speed: float) -> Array:
    """Return shoulder x, y, z and elbow (frames, 4) in rad at `phase` (frames,) of a gait's stride and `time` in s.

    At phase 0.25 the left foot is behind; an arm swings opposite to the leg of its side. Every movement has complete
    periods, so that the motion loops.
    """
    moving = np.tile(_right(style, side), (len(phase), 1))
    if style == "swing":
        most = math.radians(SWING[0] + SWING[1] * abs(speed)) * math.copysign(1, speed)
        back = most * np.sin(2 * np.pi * phase) * (1 if side == "right" else -1)
        moving[:, 1] += back
        moving[:, 3] += np.minimum(0, back / 2)  # the elbow bends as the arm swings forward
    if style == "wave" and side == "right":
        waves = round(float(time[-1]) * WAVE_RATE)
        moving[:, 3] += math.radians(WAVE) * np.sin(2 * np.pi * waves * time / time[-1])
    return _mirrored(moving, side)


def pose(style: Style, side: Side) -> Array:
    """Return the mean shoulder x, y, z and elbow (4,) in rad of a style."""
    return _mirrored(_right(style, side), side)


def _right(style: Style, side: Side) -> Array:
    """Return the pose (4,) of the arm of `side` in rad, with the signs of the right arm."""
    return np.radians(POSES["still" if style == "wave" and side == "left" else style])


def _mirrored(angles: Array, side: Side) -> Array:
    return angles if side == "right" else angles * [-1.0, 1.0, -1.0, 1.0]
