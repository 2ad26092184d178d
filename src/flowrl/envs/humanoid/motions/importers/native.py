"""flowrl's own format: an `.npz` with the keys of mjlab's motions, and the names of joints and bodies.

    fps                 frames per second
    joint_pos           (frames, 28) rad          joint_vel       (frames, 28) rad/s
    body_pos_w          (frames, bodies, 3) m     body_quat_w     (frames, bodies, 4) w, x, y, z
    body_lin_vel_w      (frames, bodies, 3) m/s   body_ang_vel_w  (frames, bodies, 3) rad/s
    joint_names, body_names                       loop            whether the last frame continues with the first

Reading takes `fps`, `joint_pos`, and the pelvis's position and rotation; the rest follows from them. Without
`joint_names` the joints are the humanoid's, in its order; without `body_names` the first body is the pelvis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, JOINTS, MODEL, ROOT
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.importers import safe_npz
from flowrl.envs.humanoid.motions.importers.retargeting import clamp_to_ranges, resample
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.reference import kinematics, velocities

KEYS = {"joint_pos"}
"""The names by which an archive is known to be of flowrl or mjlab."""


def read(arrays: dict[str, NDArray[Any]], path: Path) -> list[Motion]:
    """Return the motion in an archive. Raises ValueError."""
    width = arrays["joint_pos"].shape[-1] if arrays["joint_pos"].ndim == 2 else len(JOINTS)
    bodies = arrays["body_pos_w"].shape[1] if arrays.get("body_pos_w", np.empty(0)).ndim == 3 else 1
    if not bodies:
        raise ValueError("its 'body_pos_w' has no bodies")
    joints = safe_npz.numbers(arrays, "joint_pos", None, width)[:, _order(arrays, width)]
    positions = safe_npz.numbers(arrays, "body_pos_w", len(joints), bodies, 3)
    rotations = safe_npz.numbers(arrays, "body_quat_w", len(joints), bodies, 4)
    root = _root(arrays, bodies)
    rate = safe_npz.one_number(arrays, "fps")
    if not 0 < rate < np.inf:
        raise ValueError(f"'fps' is {rate}")
    loops = bool(safe_npz.one_number(arrays, "loop")) if "loop" in arrays else False
    vectors, turned = resample(
        np.arange(len(joints)) / rate,
        {"joint_pos": joints, "body_pos_w": positions[:, root]},
        {"body_quat_w": quaternions.normalised(rotations[:, root])},
        loops,
    )
    within, clamped = clamp_to_ranges(vectors["joint_pos"])
    qpos = np.concatenate([vectors["body_pos_w"], turned["body_quat_w"], within], axis=-1)
    return [Motion(path.stem, qpos, str(path), loops, clamped)]


def _order(arrays: dict[str, NDArray[Any]], width: int) -> list[int]:
    """Return the index of each of the humanoid's joints among the archive's."""
    names = [str(name) for name in arrays.get("joint_names", np.array(JOINTS)).reshape(-1)]
    if sorted(names) != sorted(JOINTS) or width != len(JOINTS):
        raise ValueError(
            f"its {width} joints are those of another robot: the humanoid has {len(JOINTS)}, from "
            f"{JOINTS[0]} to {JOINTS[-1]}"
        )
    return [names.index(joint) for joint in JOINTS]


def _root(arrays: dict[str, NDArray[Any]], bodies: int) -> int:
    """Return the index of the pelvis among the archive's bodies."""
    if "body_names" not in arrays:
        return 0
    names = [str(name) for name in arrays["body_names"].reshape(-1)]
    if len(names) != bodies or BODIES[ROOT] not in names:
        raise ValueError(
            f"its 'body_names' ({', '.join(names[:2])}, …) do not name {bodies} bodies with {BODIES[ROOT]!r} among them"
        )
    return names.index(BODIES[ROOT])


def write(motion: Motion, path: Path) -> None:
    """Write a motion, so that `read` returns the same motion. Raises OSError."""
    qvel = velocities(motion.qpos, MODEL)
    bodies = kinematics(motion.qpos, qvel, MODEL)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            fps=np.array(CONTROL_RATE),
            joint_pos=motion.qpos[:, 7:],
            joint_vel=qvel[:, 6:],
            body_pos_w=bodies.position.numpy(),
            body_quat_w=bodies.rotation.numpy(),
            body_lin_vel_w=bodies.velocity.numpy(),
            body_ang_vel_w=bodies.angular_velocity.numpy(),
            joint_names=np.array(JOINTS),
            body_names=np.array(BODIES),
            loop=np.array(motion.loops),
        )
