"""Inverse kinematics of the humanoid's leg, in closed form."""

from __future__ import annotations

import numpy as np

from flowrl.envs.humanoid.model import MODEL, STANDING_HEIGHT
from flowrl.envs.humanoid.motions.quaternions import (
    Array,
    axis_rotation,
    from_euler,
    inverse,
    multiply,
    rotate,
    to_euler,
)

THIGH = float(-MODEL.body("right_shin").pos[2])  # m, from hip to knee
SHIN = float(-MODEL.body("right_foot").pos[2])  # m, from knee to ankle
ANKLE_HEIGHT = STANDING_HEIGHT - THIGH - SHIN  # m, of the ankle above the sole


def angles(pelvis: Array, turn: Array, ankle: Array, foot: Array, side: str, out: Array) -> Array:
    """Return the seven angles (frames, 7) in rad, hip x, y, z, knee, ankle x, y, z, that reach a pose of the foot.

    `pelvis` and `ankle` are positions (frames, 3), `turn` and `foot` the rotations (frames, 4) of pelvis and foot,
    `out` (frames,) the angle of the hip about the thigh, which sets the direction of the knee. The knee bends back.
    Raises ValueError where the ankle is out of the leg's reach.
    """
    hip = pelvis + rotate(turn, MODEL.body(f"{side}_thigh").pos)
    way = rotate(inverse(turn), ankle - hip)
    # Law of cosines: |way|² = thigh² + shin² + 2 thigh shin cos(knee).
    bend = ((way**2).sum(-1) - THIGH**2 - SHIN**2) / (2 * THIGH * SHIN)
    if not (np.abs(bend) <= 1).all():
        raise ValueError(f"the {side} foot is out of the leg's reach")
    knee = np.arccos(bend)
    # From hip to ankle, before the hip has turned about y, then x.
    x = -SHIN * np.sin(knee) * np.cos(out)
    y = -SHIN * np.sin(knee) * np.sin(out)
    z = -THIGH - SHIN * np.cos(knee)
    # About y: x cos b + z sin b is the way's x. About x: (y, what b leaves of z) becomes the way's y and z.
    length = np.hypot(x, z)
    b = np.arctan2(x, -z) - np.arcsin(way[:, 0] / length)
    below = z * np.cos(b) - x * np.sin(b)
    a = np.arctan2(way[:, 2], way[:, 1]) - np.arctan2(below, y)
    hinges = np.stack([_wrapped(a), b, out], axis=-1)
    shin = multiply(turn, from_euler(hinges), axis_rotation("y", knee))
    return np.concatenate([hinges, knee[:, None], to_euler(multiply(inverse(shin), foot))], axis=-1)


def _wrapped(angle: Array) -> Array:
    """Return the same angle between -π and π."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)
