"""Convert a skeleton with joints of any axes and lengths to rotations of the humanoid's segments.

The meaning of a joint's axes differs from file to file, so only one property of them is used: they are fixed to a bone.
Trunk and head have the pelvis's axes in the rest pose, the frame of an upper limb lies along its bone and across the
plane in which the limb bends during the motion, and the sole is level where the foot is lowest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.gaits import leg_ik
from flowrl.envs.humanoid.motions.importers.retargeting import HINGES, Recording
from flowrl.envs.humanoid.motions.quaternions import Array, inverse, multiply, rotate

# Names in lower case, without prefixes and separators; of a limb behind its side: left… or l….
TRUNK = {"hips": ("hips", "hip", "pelvis", "root"), "neck": ("neck", "neck1"), "head": ("head",)}
LIMBS = {
    "upper_arm": ("arm", "uparm", "upperarm", "shldr", "humerus", "shoulder"),
    "forearm": ("forearm", "lowarm", "lowerarm", "radius", "elbow"),
    "hand": ("hand", "wrist"),
    "thigh": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "shin": ("leg", "lowleg", "lowerleg", "shin", "tibia", "calf", "knee"),
    "foot": ("foot", "ankle"),
    "toes": ("toebase", "toe", "toes"),
}
OPTIONAL = {"left_toes", "right_toes", "left_hand", "right_hand"}
PREFIX = re.compile(r"^(.*:|mixamorig\d*|bip0*1)", re.IGNORECASE)

TO_OURS = {"y": np.array([0.5, 0.5, 0.5, 0.5]), "z": np.array([1.0, 0.0, 0.0, 0.0])}  # by the axis that points up
LOWEST = 20.0  # percent of the frames, those with the lowest ankle, in which the sole is level
PRIOR = 0.02  # rad of bend per frame, the weight of the rest pose in the estimate of a limb's hinge


@dataclass(frozen=True)
class Skeleton:
    """The joints of a person in the rest pose and in every frame."""

    names: list[str]
    parents: list[int]  # -1 of the root
    rest: Array  # (joints, 3) positions when no joint is turned
    positions: Array  # (frames, joints, 3)
    rotations: Array  # (frames, joints, 4) relative to the world


def to_recording(body: Skeleton, seconds: Array) -> Recording:
    """Return the motion in the humanoid's axes and size. Raises ValueError where a required joint is missing."""
    joint = joints_by_part(body.names)
    joint["chest"] = body.parents[joint["neck"]]
    if joint["chest"] < 0:
        raise ValueError("its neck has no parent")
    pelvis = body.positions[:, [joint["left_thigh"], joint["right_thigh"]]].mean(1)
    feet = body.positions[:, [joint["left_foot"], joint["right_foot"]]].mean(1)
    up = (pelvis - feet).mean(0)
    to_ours = TO_OURS["y" if abs(up[1]) > abs(up[2]) else "z"]
    length = sum(
        float(np.linalg.norm(body.rest[joint[f"left_{part}"]] - body.rest[joint[f"left_{above}"]]))
        for above, part in (("thigh", "shin"), ("shin", "foot"))
    )
    if not length > 0:
        raise ValueError("its legs have no length")
    trunk = _frame(
        y=body.rest[joint["left_thigh"]] - body.rest[joint["right_thigh"]],
        z=body.rest[joint["neck"]] - body.rest[joint["hips"]],
    )
    frames = {"pelvis": ("hips", trunk), "chest": ("chest", trunk), "head": ("head", trunk)}
    for side in ("left", "right"):
        for lower, (upper, bends) in HINGES.items():
            above, below = joint[f"{side}_{upper}"], joint[f"{side}_{lower}"]
            end = joint.get(f"{side}_{'hand' if lower == 'forearm' else 'foot'}", _child(body, below))
            hinged = _upper(body, (above, below, end), bends, trunk)
            frames[f"{side}_{upper}"] = (f"{side}_{upper}", hinged)
            frames[f"{side}_{lower}"] = (f"{side}_{lower}", _along(body.rest[end] - body.rest[below], trunk))
        frames[f"{side}_foot"] = (f"{side}_foot", _sole(body, joint, side, to_ours, trunk))
    rotations = {
        segment: multiply(to_ours, body.rotations[:, joint[part]], frame) for segment, (part, frame) in frames.items()
    }
    scale = (leg_ik.THIGH + leg_ik.SHIN) / length
    return Recording(seconds, rotate(to_ours, pelvis) * scale, rotations)


def joints_by_part(names: list[str]) -> dict[str, int]:
    """Return the index of each body part's joint, by the joints' names. Raises ValueError for a part without one."""
    plain = [re.sub(r"[^a-z0-9]", "", PREFIX.sub("", name).lower()) for name in names]
    wanted = dict(TRUNK)
    for side in ("left", "right"):
        for part, words in LIMBS.items():
            wanted[f"{side}_{part}"] = tuple(f"{start}{word}" for word in words for start in (side, side[0]))
    found = {
        part: plain.index(next(word for word in words if word in plain))
        for part, words in wanted.items()
        if any(word in plain for word in words)
    }
    missing = [part for part in wanted if part not in found and part not in OPTIONAL]
    if missing:
        raise ValueError(f"no joint is named as the {missing[0].replace('_', ' ')}; the joints are {names}")
    return found


def _child(body: Skeleton, joint: int) -> int:
    if joint not in body.parents:
        raise ValueError(f"{body.names[joint]} has no end")
    return body.parents.index(joint)


def _upper(body: Skeleton, joints: tuple[int, int, int], bends: float, trunk: Array) -> Array:
    """Return the frame (4,) of an upper limb in its joint's axes: -z along the bone, y along the hinge at its end.

    `joints` are the limb's first joint, the one that bends, and its end.
    """
    upper, lower, end = joints
    bone, next_bone = body.rest[lower] - body.rest[upper], body.rest[end] - body.rest[lower]
    straight = _along(bone, trunk)
    local = multiply(inverse(body.rotations[:, upper]), body.rotations[:, lower])
    across = np.cross(_unit(bone), rotate(local, _unit(next_bone)))  # (frames, 3): sin(bend) times the hinge
    hinge = bends * across.sum(0) + PRIOR * len(across) * rotate(straight, [0.0, 1.0, 0.0])
    return _frame(y=hinge, z=-bone, exact="z")


def _along(bone: Array, trunk: Array) -> Array:
    """Return the frame (4,) with -z along `bone` that is closest to the trunk's."""
    start, end = rotate(trunk, [0.0, 0.0, -1.0]), _unit(bone)
    axis, cosine = np.cross(start, end), float(start @ end)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-6:  # along the trunk, or against it: turned about y
        return trunk if cosine > 0 else multiply(trunk, quaternions.axis_rotation("y", np.pi))
    return multiply(quaternions.from_vector(axis / sine * np.arctan2(sine, cosine)), trunk)


def _sole(body: Skeleton, joint: dict[str, int], side: str, to_ours: Array, trunk: Array) -> Array:
    """Return the frame (4,) of a foot in its joint's axes: x to the toes, z up where the foot is lowest."""
    foot = joint[f"{side}_foot"]
    back = inverse(multiply(to_ours, body.rotations[:, foot]))
    height = rotate(to_ours, body.positions[:, foot])[:, 2]
    low = height <= np.percentile(height, LOWEST)
    up = rotate(back[low], [0.0, 0.0, 1.0]).mean(0)
    if f"{side}_toes" in joint:
        ahead = body.rest[joint[f"{side}_toes"]] - body.rest[foot]
    else:
        pelvis = multiply(to_ours, body.rotations[:, joint["hips"]], trunk)
        ahead = rotate(multiply(back, pelvis), [1.0, 0.0, 0.0]).mean(0)
    return _frame(y=np.cross(up, ahead), z=up)


def _frame(y: Array, z: Array, exact: str = "y") -> Array:
    """Return the rotation (4,) whose `exact` axis lies along its vector, and the other one as closely as possible."""
    if exact == "y":
        y = _unit(y)
        z = _unit(z - (z @ y) * y)
    else:
        z = _unit(z)
        y = _unit(y - (y @ z) * z)
    return quaternions.from_matrix(np.stack([np.cross(y, z), y, z], axis=-1))


def _unit(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    if not length > 1e-9:
        raise ValueError("two of its joints that should differ have the same position")
    return vector / length
