"""Read BVH files: a tree of joints in text, then the channels of every frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.importers import skeleton
from flowrl.envs.humanoid.motions.importers.retargeting import retarget
from flowrl.envs.humanoid.motions.importers.skeleton import Skeleton
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, multiply

EXPECTED = "a BVH file (HIERARCHY, then MOTION) of a person, its joints named as in LAFAN1, in CMU's files or by Mixamo"
END = "End Site"
AXES = ("x", "y", "z")


@dataclass
class Joint:
    """A joint of the tree, or the end of a branch."""

    name: str
    parent: int  # index; -1 of the root
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)  # from the parent, in the file's unit
    channels: tuple[str, ...] = ()  # 'Xposition', 'Zrotation', …, in the file's order


def read(data: bytes, path: Path) -> list[Motion]:
    """Return the motion in a file. Raises ValueError."""
    joints, interval, frames = parse(data.decode("utf-8-sig", errors="replace"))
    body = forward_kinematics(joints, frames)
    seconds = np.arange(len(frames), dtype=np.float64) * interval
    return [retarget(skeleton.to_recording(body, seconds), path.stem, str(path))]


def parse(text: str) -> tuple[list[Joint], float, Array]:
    """Return the joints, parents first, the seconds between frames and the channels (frames, …). Raises ValueError."""
    head, found, tail = text.partition("MOTION")
    if not head.split()[:1] == ["HIERARCHY"] or not found:
        raise ValueError("it does not begin with HIERARCHY, or has no MOTION")
    joints = _tree(iter(head.split()[1:]))
    words = tail.split()
    if words[:1] != ["Frames:"] or words[2:4] != ["Frame", "Time:"]:
        raise ValueError("MOTION does not begin with 'Frames:' and 'Frame Time:'")
    try:
        count, interval = int(words[1]), float(words[4])
        numbers = np.array(words[5:], dtype=np.float64)
    except (ValueError, IndexError) as error:
        raise ValueError("MOTION has a value that is not a number") from error
    width = sum(len(joint.channels) for joint in joints)
    if count < 2 or not 0 < interval < math.inf or numbers.size != count * width:
        raise ValueError(
            f"MOTION has {numbers.size} numbers, {interval} s apart, not at least two frames, here {count}, of {width}"
        )
    return joints, interval, numbers.reshape(count, width)


def _tree(words: Iterator[str]) -> list[Joint]:
    joints: list[Joint] = []
    open_: list[int] = []  # the joints whose braces are open
    try:
        for word in words:
            if word in ("ROOT", "JOINT"):
                joints.append(Joint(next(words), open_[-1] if open_ else -1))
            elif word == "End":
                next(words)
                joints.append(Joint(END, open_[-1]))
            elif word == "{":
                open_.append(len(joints) - 1)
            elif word == "}":
                open_.pop()
            elif word == "OFFSET":
                joints[open_[-1]].offset = tuple(float(next(words)) for _ in range(3))
            elif word == "CHANNELS":
                joints[open_[-1]].channels = tuple(next(words) for _ in range(int(next(words))))
            else:
                raise ValueError(f"HIERARCHY has the unknown word {word[:40]!r}")
    except (IndexError, StopIteration, RuntimeError) as error:
        raise ValueError("the braces of HIERARCHY do not match") from error
    if sum(joint.parent < 0 for joint in joints) != 1:
        raise ValueError("HIERARCHY has no joint, or several roots")
    for joint in joints:
        for channel in joint.channels:
            if channel[:1].lower() not in AXES or channel[1:].lower() not in ("position", "rotation"):
                raise ValueError(f"{joint.name} has the unknown channel {channel[:40]!r}")
    return joints


def forward_kinematics(joints: list[Joint], frames: Array) -> Skeleton:
    """Return position and rotation of every joint in every frame, in the file's unit and axes."""
    column = 0
    rest: list[Array] = []
    positions: list[Array] = []
    rotations: list[Array] = []
    for joint in joints:
        in_rest = np.array(joint.offset)
        offset = np.tile(in_rest, (len(frames), 1))
        turn = np.tile([1.0, 0.0, 0.0, 0.0], (len(frames), 1))
        for channel in joint.channels:
            values = frames[:, column]
            column += 1
            axis = channel[0].lower()
            if channel[1:].lower() == "position":
                offset[:, AXES.index(axis)] = values
            else:
                turn = multiply(turn, quaternions.axis_rotation(axis, np.radians(values)))
        if joint.parent < 0:
            rest.append(in_rest)
            positions.append(offset)
            rotations.append(turn)
        else:
            rest.append(rest[joint.parent] + in_rest)
            positions.append(positions[joint.parent] + quaternions.rotate(rotations[joint.parent], offset))
            rotations.append(multiply(rotations[joint.parent], turn))
    return Skeleton(
        names=[joint.name for joint in joints],
        parents=[joint.parent for joint in joints],
        rest=np.stack(rest),
        positions=np.stack(positions, axis=1),
        rotations=np.stack(rotations, axis=1),
    )
