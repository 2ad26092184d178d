"""A motion of another body, and how it becomes one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.model import CONTROL_RATE, JOINTS, OUT, SEGMENTS, build
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.grounding import planted
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, inverse, multiply, rotate

SHORTEST, LONGEST = 5, 60 * 60 * CONTROL_RATE  # frames of ours
MOST_RATE = 1000.0  # recorded frames per second
MOST = 1e4  # m and rad, of any number in a motion
FAINT, CLEAR = np.sin(np.radians((5.0, 25.0)))  # bends that do not tell, and that do, where a hinge lies
DOWN = np.array([0.0, 0.0, -1.0])

# Which hinge bends back (+1) or forward (-1), below which ball joint.
HINGES = {"forearm": ("upper_arm", -1.0), "shin": ("thigh", 1.0)}
BALLS = ("chest", "head", *(f"{side}_{part}" for part in ("upper_arm", "thigh", "foot") for side in OUT))


@dataclass(frozen=True)
class Recording:
    """What was recorded, frame by frame, in a world of ours: metres, z up, the floor anywhere.

    `turns` has the rotation (frames, 4) of every segment but the hands, against the world: the identity for a body
    that stands straight with hanging arms and looks along x.
    """

    seconds: Array  # (frames,) s, ascending
    pelvis: Array  # (frames, 3) m
    turns: Mapping[str, Array]
    loops: bool = False  # whether the last frame goes over into the first
    fits: bool = False  # whether it was made for a body of our lengths


def retargeted(recording: Recording, name: str, source: str) -> Motion:
    """The motion on our body at our rate, its feet on the floor, its angles within the joints' ranges.

    Raises ValueError, told as what is wrong with the motion.
    """
    vectors, turns = at_our_rate(
        recording.seconds, {"place": recording.pelvis}, recording.turns, recording.loops
    )
    chain = {segment.name: segment.parent for segment in SEGMENTS}
    angles: dict[str, Array] = {}
    for side in OUT:
        for hinge, (ball, bends) in HINGES.items():
            upper, lower = f"{side}_{ball}", f"{side}_{hinge}"
            twist, bend = hinge_angles(multiply(inverse(turns[upper]), turns[lower]), bends)
            angles[lower] = bend[:, None]
            turns[upper] = multiply(turns[upper], quaternions.about("z", twist))
            turns[lower] = multiply(turns[upper], quaternions.about("y", bend))
    ranges = build().jnt_range[1:]
    for segment in BALLS:
        first = JOINTS.index(f"{segment}_x")
        local = multiply(inverse(turns[str(chain[segment])]), turns[segment])
        angles[segment] = euler_path(local, ranges[first : first + 3])
    hinges = np.concatenate([angles[s.name] for s in SEGMENTS if s.name in angles], axis=-1)
    within = np.clip(hinges, *ranges.T)
    clamped = int((np.abs(hinges - within) > 1e-6).any(-1).sum())
    qpos = np.concatenate([vectors["place"], turns["pelvis"], within], axis=-1)
    return Motion(name, planted(qpos, recording.fits), source, loops=recording.loops, clamped=clamped)


def at_our_rate(
    seconds: Array, vectors: Mapping[str, Array], turns: Mapping[str, Array], loops: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`vectors` (frames, n) and rotations `turns` (frames, 4), recorded at `seconds` (frames,), at our frames.

    A motion that loops is stretched a little, so that it takes whole frames. Raises ValueError.
    """
    frames = len(seconds)
    for name, value in {**vectors, **turns}.items():
        finite = np.isfinite(value).all(-1)
        if not finite.all():
            raise ValueError(f"a number of {name!r} is not finite, first in frame {int(finite.argmin())}")
        within = (np.abs(value) < MOST).all(-1)
        if not within.all():
            raise ValueError(
                f"a number of {name!r} is beyond {MOST:g}, first in frame {int(within.argmin())}"
            )
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
        name: value[before] + (value[before + 1] - value[before]) * share[:, None]
        for name, value in vectors.items()
    }
    turned = {name: quaternions.slerp(turn[before], turn[before + 1], share) for name, turn in turns.items()}
    return between, {
        name: quaternions.continuous(quaternions.normalised(turn)) for name, turn in turned.items()
    }


def hinge_angles(turn: Array, bends: float) -> tuple[Array, Array]:
    """The hinge's angle (frames,) and, before it, the twist (frames,) of the upper limb about its own length.

    They point the lower limb where `turn` (frames, 4), its rotation against the upper one, does: with the hinge at
    angle b and the twist at c, it points along (-sin b cos c, -sin b sin c, -cos b). Where the limb is nearly
    straight, or bends to the side as no hinge does, the twist says little, and fades.
    """
    x, y, z = np.moveaxis(rotate(turn, DOWN), -1, 0)
    aside = np.arctan2(-bends * y, -bends * x)
    twist = aside * _rise(np.hypot(x, y), FAINT, CLEAR) * (1 - _rise(np.abs(aside), np.pi / 4, np.pi / 2))
    return twist, np.arctan2(-(x * np.cos(twist) + y * np.sin(twist)), -z)


def _rise(value: Array, low: float, high: float) -> Array:
    """From 0 where `value` is `low` or less to 1 where it is `high` or more, smoothly."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share**2 * (3 - 2 * share)


def euler_path(turn: Array, ranges: Array) -> Array:
    """The angles (frames, 3) of three hinges x, y, z in series that make `turn` (frames, 4), smoothly.

    Every rotation has two such sets of angles, (x, y, z) and (x + π, π - y, z + π). Those are taken that, over the
    whole motion, move and leave the `ranges` (3, 2) least, by the sum of squares.
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
