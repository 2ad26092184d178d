"""Measure the height of a motion above the floor, and put the motion on the floor."""

from __future__ import annotations

import mujoco
import numpy as np

from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, FEET, MODEL
from flowrl.envs.humanoid.motions.quaternions import Array

FLOOR_PERCENTILE = 25.0  # of a motion's frames are below the estimated floor, and are lifted onto it
LIFT_FRAMES = CONTROL_RATE // 3  # frames over which such a lift rises and falls


# Every shape is a box with rounded corners: half lengths (15, 3) and radii (15,) in m. A capsule's is along its z axis.
SHAPES = [MODEL.geom(name).id for name in BODIES]
_SIZES = MODEL.geom_size[SHAPES]
_BOX = MODEL.geom_type[SHAPES] == mujoco.mjtGeom.mjGEOM_BOX
HALVES = np.where(_BOX[:, None], _SIZES, np.outer(_SIZES[:, 1], [0, 0, 1]))
RADII = np.where(_BOX, 0, _SIZES[:, 0])


def lowest_points(qpos: Array) -> Array:
    """Return the height (frames, 15) in m of the lowest point of every segment above the floor."""
    data = mujoco.MjData(MODEL)
    lowest = np.empty((len(qpos), len(BODIES)))
    for frame, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(MODEL, data)
        rise = data.geom_xmat[SHAPES].reshape(-1, 3, 3)[:, 2]  # of a shape's axes: their z
        lowest[frame] = data.geom_xpos[SHAPES, 2] - (np.abs(rise) * HALVES).sum(-1) - RADII
    return lowest


def lowest_feet(qpos: Array) -> Array:
    """Return the height (frames, 2) in m of the lowest corner of the right and the left foot above the floor."""
    return lowest_points(qpos)[:, FEET]


def place_on_floor(qpos: Array, same_proportions: bool) -> Array:
    """Return the motion (frames, 35), moved vertically onto the floor.

    With the `same_proportions` as the humanoid, all frames move by the same amount, until the lowest foot touches the
    floor. In other motions the feet have another size: the floor is estimated from most frames, and lower frames are
    lifted smoothly, so that no segment is below it.
    """
    qpos = qpos.copy()
    if same_proportions:
        qpos[:, 2] -= lowest_feet(qpos).min()
        return qpos
    lowest = lowest_points(qpos).min(-1)
    under = np.maximum(np.percentile(lowest, FLOOR_PERCENTILE) - lowest, 0)
    reach = np.pad(under, 2 * LIFT_FRAMES, mode="edge")
    window = 2 * LIFT_FRAMES + 1
    highest = np.lib.stride_tricks.sliding_window_view(reach, window).max(-1)
    lift = np.lib.stride_tricks.sliding_window_view(highest, window).mean(-1)
    qpos[:, 2] += lift - (lowest + lift).min()
    return qpos
