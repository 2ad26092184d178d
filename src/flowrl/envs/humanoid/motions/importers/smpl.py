"""Convert joint rotations of the SMPL body (Loper et al. 2015, doi 10.1145/2816795.2818013) without its model files.

SMPL's rest pose is a T: arms level, palms down; x points to its left, y up, z forward. A joint's rotation is
relative to its parent's. SMPL-H and SMPL-X begin with the same 22 joints.
"""

from __future__ import annotations

import numpy as np

from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.importers.retargeting import Recording, check_numbers, retarget
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, multiply

JOINTS = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle"),
    *("right_ankle", "spine3", "left_toes", "right_toes", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
KNOWN_JOINTS = {22: "SMPL-H's and SMPL-X's without hands", 24: "SMPL's", 52: "SMPL-H's", 55: "SMPL-X's"}
"""Numbers of joints of the bodies that begin with these 22."""
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)

# The joint of each segment of the humanoid, and the degrees about x from the humanoid's rest pose to SMPL's.
TURNED_BY = {
    "pelvis": ("pelvis", 0),
    "chest": ("spine3", 0),
    "head": ("head", 0),
    **{f"{side}_thigh": (f"{side}_hip", 0) for side in ("right", "left")},
    **{f"{side}_shin": (f"{side}_knee", 0) for side in ("right", "left")},
    **{f"{side}_foot": (f"{side}_ankle", 0) for side in ("right", "left")},
    **{f"{side}_upper_arm": (f"{side}_shoulder", up) for side, up in (("right", -90), ("left", 90))},
    **{f"{side}_forearm": (f"{side}_elbow", up) for side, up in (("right", -90), ("left", 90))},
}
OUR_AXES = np.array([0.5, -0.5, -0.5, -0.5])  # rotates our x, y, z to SMPL's z, x, y: forward, left, up


def to_motion(pelvis: Array, poses: Array, rate: float, name: str, source: str) -> Motion:
    """Return the motion of pelvis positions (frames, 3) in m, z up, and rotation vectors (frames, 3 · joints) in rad.

    `rate` is in frames per second. Raises ValueError.
    """
    if pelvis.ndim != 2 or pelvis.shape[1] != 3 or poses.ndim != 2 or poses.shape[1] < 3 * len(JOINTS):
        raise ValueError(
            f"positions of shape {pelvis.shape} and rotations of shape {poses.shape} are not (frames, 3) and (frames, "
            f"{3 * len(JOINTS)} or more)"
        )
    if poses.shape[1] not in {3 * joints for joints in KNOWN_JOINTS}:
        known = ", ".join(f"{joints} ({whose})" for joints, whose in KNOWN_JOINTS.items())
        raise ValueError(
            f"rotations of shape {poses.shape}, of {poses.shape[1] / 3:.4g} joints, are those of another body or a "
            f"robot: expected the rotations of as many joints as SMPL's bodies have: {known}"
        )
    if len(pelvis) != len(poses):
        raise ValueError(f"there are {len(pelvis)} positions, but {len(poses)} rotations")
    if not 0 < rate < np.inf:
        raise ValueError(f"{rate} frames per second is not a rate")
    check_numbers("joint rotations", poses)
    vectors = poses[:, : 3 * len(JOINTS)].reshape(len(poses), len(JOINTS), 3).astype(np.float64)
    local = quaternions.from_vector(vectors)
    rotations: list[Array] = []
    for joint, parent in enumerate(PARENTS):
        rotations.append(local[:, joint] if parent < 0 else multiply(rotations[parent], local[:, joint]))
    ours = {
        segment: multiply(rotations[JOINTS.index(joint)], OUR_AXES, quaternions.axis_rotation("x", np.radians(up)))
        for segment, (joint, up) in TURNED_BY.items()
    }
    return retarget(Recording(np.arange(len(pelvis)) / rate, pelvis.astype(np.float64), ours), name, source)
