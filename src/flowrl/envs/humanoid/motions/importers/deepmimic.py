"""Read DeepMimic's motions (Peng et al. 2018, arXiv 1804.02717): `humanoid3d_*.txt`, of a body like the humanoid.

JSON: {"Loop": "wrap" or "none", "Frames": [[44 numbers], …]}. A frame has its duration in s; the root's position in m
and quaternion w, x, y, z; then quaternions and, for knees and elbows, single angles in rad. x points forward, y up,
z to the right. The last frame of a motion that wraps is the first one of its next cycle.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from flowrl.envs.humanoid.model import PARENTS
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.importers.retargeting import HINGES, Recording, retarget
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, multiply

EXPECTED = 'JSON with "Loop" and "Frames", each of 44 numbers, as DeepMimic writes it'
SIZE = 44

# The humanoid's segments in the order of a frame. One with a single hinge takes one number, the others take four.
SEGMENTS = (
    *("chest", "head", "right_thigh", "right_shin", "right_foot", "right_upper_arm", "right_forearm"),
    *("left_thigh", "left_shin", "left_foot", "left_upper_arm", "left_forearm"),
)


def read(data: bytes, path: Path) -> list[Motion]:
    """Return the motion in a file. Raises ValueError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("Frames"), list):
        raise ValueError('it has no list "Frames"')
    for number, frame in enumerate(document["Frames"]):
        if not isinstance(frame, list) or len(frame) != SIZE:
            raise ValueError(f"frame {number} is not a list of {SIZE} numbers")
    try:
        frames = np.array(document["Frames"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("a frame has a value that is not a number") from error
    if len(frames) < 2 or not np.isfinite(frames).all():
        raise ValueError("it has fewer than two frames, or a number in them is not finite")
    rotations = {"pelvis": _turn(frames[:, 4:8])}
    column = 8
    for segment in SEGMENTS:
        size = 1 if segment.endswith(tuple(HINGES)) else 4
        value = frames[:, column : column + size]
        local = _turn(value) if size == 4 else quaternions.axis_rotation("y", -value[:, 0])
        rotations[segment] = multiply(rotations[PARENTS[segment]], local)
        column += size
    x, y, z = frames[:, 1:4].T
    seconds = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    positions = np.stack([x, -z, y], axis=-1)
    recording = Recording(seconds, positions, rotations, loops=document.get("Loop") == "wrap", same_proportions=True)
    return [retarget(recording, path.stem, str(path))]


def _turn(quaternion: Array) -> Array:
    """Convert a rotation (frames, 4) from DeepMimic's axes to the humanoid's."""
    w, x, y, z = quaternion.T
    return quaternions.normalised(np.stack([w, x, -z, y], axis=-1))
