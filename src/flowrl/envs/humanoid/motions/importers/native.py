"""flowrl's own format: an `.npz` with the keys of mjlab's motions, and the names of joints and bodies.

    fps                 frames per second
    joint_pos           (frames, 28) rad          joint_vel       (frames, 28) rad/s
    body_pos_w          (frames, bodies, 3) m     body_quat_w     (frames, bodies, 4) w, x, y, z
    body_lin_vel_w      (frames, bodies, 3) m/s   body_ang_vel_w  (frames, bodies, 3) rad/s
    joint_names, body_names                       loop            whether the last frame continues with the first

Reading takes `fps`, `joint_pos`, and the pelvis's position and rotation; the rest follows from them, and the positions
and rotations of the other bodies are compared with what follows. Without `joint_names` the joints are the humanoid's,
in its order; without `body_names` the bodies are the humanoid's, in its order, or the pelvis alone.
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
from flowrl.envs.humanoid.motions.quaternions import Array
from flowrl.envs.humanoid.reference import kinematics, velocities

COMPARED = 60  # frames, evenly spaced, whose bodies are compared with the joint angles
MOST_OFF = 0.05  # m
MOST_TURNED = 0.25  # rad
MOST_WRONG = 0.1  # of the frames: a glitch in a recording is no wrong order

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
    places = _places(arrays, bodies)
    root = places[ROOT]
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
    _check_bodies(joints, positions, rotations, places)
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


def _places(arrays: dict[str, NDArray[Any]], bodies: int) -> dict[int, int]:
    """Map each of the humanoid's bodies that the archive has to its index there; the pelvis is among them."""
    if "body_names" not in arrays:
        if bodies not in (1, len(BODIES)):
            raise ValueError(
                f"its {bodies} bodies have no names ('body_names'): expected the humanoid's {len(BODIES)}, or the "
                "pelvis alone"
            )
        return {number: number for number in range(bodies)}
    names = [str(name) for name in arrays["body_names"].reshape(-1)]
    if len(names) != bodies or BODIES[ROOT] not in names:
        raise ValueError(
            f"its 'body_names' ({', '.join(names[:2])}, …) do not name {bodies} bodies with {BODIES[ROOT]!r} among them"
        )
    return {number: names.index(name) for number, name in enumerate(BODIES) if name in names}


def _check_bodies(joints: Array, positions: Array, rotations: Array, places: dict[int, int]) -> None:
    """Raise ValueError unless the bodies are where the pelvis and the joint angles (frames, 28) put them.

    It finds bodies in another order, quaternions x, y, z, w, and angles in degrees or of another robot.
    """
    chosen = np.unique(np.linspace(0, len(joints) - 1, COMPARED).round().astype(int))
    joints, positions, rotations = joints[chosen], positions[chosen], rotations[chosen]
    off, turned = _differences(joints, positions, rotations, places)
    wrong = ~((off <= MOST_OFF) & (turned <= MOST_TURNED))  # (frames, bodies); not a number is wrong, too
    if wrong.any(1).mean() <= MOST_WRONG:
        return
    off_if_rolled, _ = _differences(joints, positions, np.roll(rotations, 1, axis=-1), places)
    if (off_if_rolled <= MOST_OFF).all(1).mean() > 1 - MOST_WRONG:
        raise ValueError("its 'body_quat_w' is in the order x, y, z, w: expected w, x, y, z")
    worst = int(np.argmax(wrong.mean(0)))
    frame = int(np.argmax(wrong[:, worst]))
    far, angle = off[frame, worst], np.degrees(turned[frame, worst])
    raise ValueError(
        f"its bodies are not where its joint angles put them: {BODIES[list(places)[worst]]} is {far:.2f} m and "
        f"{angle:.0f} degrees off in frame {chosen[frame]}. Are the bodies in another order than their names, the "
        "angles in degrees, or of another robot?"
    )


def _differences(joints: Array, positions: Array, rotations: Array, places: dict[int, int]) -> tuple[Array, Array]:
    """Compute how far, in m and rad, each body of `places` is from where the joint angles put it, (frames, bodies)."""
    root, (ours, theirs) = places[ROOT], (list(numbers) for numbers in (places.keys(), places.values()))
    qpos = np.concatenate([positions[:, root], quaternions.normalised(rotations[:, root]), joints], axis=-1)
    expected = kinematics(qpos, np.zeros((len(qpos), MODEL.nv)), MODEL)
    off = np.linalg.norm(positions[:, theirs] - expected.position.numpy()[:, ours], axis=-1)
    lengths = np.linalg.norm(rotations[:, theirs], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.abs((rotations[:, theirs] * expected.rotation.numpy()[:, ours]).sum(-1)) / lengths
        return off, 2 * np.arccos(np.minimum(cosines, 1))


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
