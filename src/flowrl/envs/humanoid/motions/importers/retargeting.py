"""Retarget a recorded motion to the humanoid: resample it, find the hinge angles and put it on the floor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, JOINTS, MODEL, OUT, PARENTS
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.grounding import place_on_floor
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, inverse, multiply, rotate

SHORTEST, LONGEST = 5, 60 * 60 * CONTROL_RATE  # frames at the control rate
MOST_RATE = 1000.0  # recorded frames per second
MOST = 1e4  # m and rad, of any number in a motion
FAINT, CLEAR = np.sin(np.radians((5.0, 25.0)))  # bends too small, and large enough, to locate the hinge
DOWN = np.array([0.0, 0.0, -1.0])

# Which hinge bends back (+1) or forward (-1), below which ball joint.
HINGES = {"forearm": ("upper_arm", -1.0), "shin": ("thigh", 1.0)}
BALLS = ("chest", "head", *(f"{side}_{part}" for part in ("upper_arm", "thigh", "foot") for side in OUT))


@dataclass(frozen=True)
class Recording:
    """A recorded motion in metres with z up, its floor at any height.

    `rotations` has the rotation (frames, 4) of every segment but the hands, relative to the world: the identity for a
    body that stands upright with hanging arms and faces along x.
    """

    seconds: Array  # (frames,) s, ascending
    pelvis: Array  # (frames, 3) m
    rotations: Mapping[str, Array]
    loops: bool = False  # whether the last frame continues with the first
    same_proportions: bool = False  # whether the recorded body has the humanoid's segment lengths


def retarget(recording: Recording, name: str, source: str) -> Motion:
    """Return the motion of the humanoid at its control rate, on the floor and within the joints' ranges.

    Raises ValueError, whose message is what is wrong with the motion.
    """
    vectors, rotations = resample(
        recording.seconds, {"pelvis position": recording.pelvis}, recording.rotations, recording.loops
    )
    angles: dict[str, Array] = {}
    for side in OUT:
        for hinge, (ball, bends) in HINGES.items():
            upper, lower = f"{side}_{ball}", f"{side}_{hinge}"
            twist, bend = hinge_angles(multiply(inverse(rotations[upper]), rotations[lower]), bends)
            angles[lower] = bend[:, None]
            rotations[upper] = multiply(rotations[upper], quaternions.axis_rotation("z", twist))
            rotations[lower] = multiply(rotations[upper], quaternions.axis_rotation("y", bend))
    ranges = MODEL.jnt_range[1:]
    for segment in BALLS:
        first = JOINTS.index(f"{segment}_x")
        local = multiply(inverse(rotations[PARENTS[segment]]), rotations[segment])
        angles[segment] = euler_path(local, ranges[first : first + 3])
    hinges = np.concatenate([angles[segment] for segment in BODIES if segment in angles], axis=-1)
    within, clamped = clamp_to_ranges(hinges)
    qpos = np.concatenate([vectors["pelvis position"], rotations["pelvis"], within], axis=-1)
    qpos = place_on_floor(qpos, recording.same_proportions)
    return Motion(name, qpos, source, loops=recording.loops, clamped=clamped)


def clamp_to_ranges(hinges: Array) -> tuple[Array, int]:
    """Move the angles (frames, 28) into their joints' ranges; return them and the number of frames that changed."""
    within = np.clip(hinges, *MODEL.jnt_range[1:].T)
    return within, int((np.abs(hinges - within) > 1e-6).any(-1).sum())


def resample(
    seconds: Array, vectors: Mapping[str, Array], rotations: Mapping[str, Array], loops: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Resample `vectors` (frames, n) and `rotations` (frames, 4), recorded at `seconds`, to the control rate.

    A motion that loops is stretched slightly to a whole number of frames. Raises ValueError.
    """
    frames = len(seconds)
    for name, value in {**vectors, **rotations}.items():
        check_numbers(name, value)
    if frames < 2 or not (np.diff(seconds) >= 1 / MOST_RATE).all():
        raise ValueError(f"the times of its {frames} frames do not ascend by at least {1 / MOST_RATE} s")
    length = (seconds[-1] - seconds[0]) * CONTROL_RATE
    count = round(length) if loops else int(length + 1e-6)
    if not SHORTEST <= count + 1 <= LONGEST:
        raise ValueError(
            f"it lasts {length / CONTROL_RATE:.4g} s; a motion lasts from {(SHORTEST - 1) / CONTROL_RATE:.2f} s to "
            f"{LONGEST / CONTROL_RATE / 60:.0f} minutes"
        )
    step = length / count if loops else 1.0
    at = np.minimum(seconds[0] + np.arange(count + 1) * step / CONTROL_RATE, seconds[-1])
    before = np.clip(np.searchsorted(seconds, at, side="right") - 1, 0, frames - 2)
    share = (at - seconds[before]) / (seconds[before + 1] - seconds[before])
    between = {
        name: value[before] + (value[before + 1] - value[before]) * share[:, None] for name, value in vectors.items()
    }
    turned = {name: quaternions.slerp(turn[before], turn[before + 1], share) for name, turn in rotations.items()}
    return between, {name: quaternions.continuous(quaternions.normalised(turn)) for name, turn in turned.items()}


def check_numbers(name: str, value: Array) -> None:
    """Raise ValueError where a number of `value` (frames, n) is not finite, or larger than any in a motion."""
    for sound, fault in ((np.isfinite(value), "not finite"), (np.abs(value) < MOST, f"beyond {MOST:g}")):
        frames = sound.all(-1)
        if not frames.all():
            raise ValueError(f"a number of {name!r} is {fault}, first in frame {int(frames.argmin())}")


def hinge_angles(turn: Array, bends: float) -> tuple[Array, Array]:
    """Return the twist (frames,) of the upper limb about its length and the hinge's angle (frames,), in rad.

    They point the lower limb where `turn` (frames, 4), its rotation relative to the upper one, does: with the hinge
    at angle b and the twist at c, it points along (-sin b cos c, -sin b sin c, -cos b). Where the limb is nearly
    straight, or bends sideways as no hinge can, the twist is poorly determined and fades to zero.
    """
    x, y, z = np.moveaxis(rotate(turn, DOWN), -1, 0)
    aside = np.arctan2(-bends * y, -bends * x)
    twist = aside * _rise(np.hypot(x, y), FAINT, CLEAR) * (1 - _rise(np.abs(aside), np.pi / 4, np.pi / 2))
    return twist, np.arctan2(-(x * np.cos(twist) + y * np.sin(twist)), -z)


def _rise(value: Array, low: float, high: float) -> Array:
    """Return a smooth step from 0 at `low` and below to 1 at `high` and above."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share**2 * (3 - 2 * share)


def euler_path(turn: Array, ranges: Array) -> Array:
    """Return continuous angles (frames, 3) of three hinges x, y, z in series whose rotation is `turn` (frames, 4).

    Every rotation has two such sets of angles, (x, y, z) and (x + π, π - y, z + π). Dynamic programming chooses, over
    all frames, those with the least sum of squared changes and squared excess over the `ranges` (3, 2).
    """
    first = quaternions.to_euler(turn)
    second = np.stack([first[:, 0] + np.pi, np.pi - first[:, 1], first[:, 2] + np.pi], axis=-1)
    middle = ranges.mean(-1)
    sets = np.stack([first, second], axis=1)  # (frames, 2, 3)
    sets = middle + (sets - middle + np.pi) % (2 * np.pi) - np.pi
    outside = ((sets - np.clip(sets, ranges[:, 0], ranges[:, 1])) ** 2).sum(-1)  # (frames, 2)
    moves = ((sets[1:, None, :, :] - sets[:-1, :, None, :]) ** 2).sum(-1)  # (frames - 1, before, after)
    cost, came_from = outside[0], np.zeros((len(sets), 2), dtype=np.int64)
    for frame in range(1, len(sets)):
        reached = cost[:, None] + moves[frame - 1]
        came_from[frame] = reached.argmin(0)
        cost = reached.min(0) + outside[frame]
    taken = np.empty(len(sets), dtype=np.int64)
    taken[-1] = cost.argmin()
    for frame in range(len(sets) - 1, 0, -1):
        taken[frame - 1] = came_from[frame, taken[frame]]
    return sets[np.arange(len(sets)), taken]
