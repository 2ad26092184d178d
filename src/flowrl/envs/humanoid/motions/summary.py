"""Summarise a motion in figures and remarks, before training on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.model import CONTROL_RATE, FEET, JOINTS
from flowrl.envs.humanoid.motions.grounding import lowest_points
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion

NEAR_FLOOR = 0.02  # m: a foot always above it is never in stance; a segment this far below 0 penetrates the floor
FAST = 30.0  # rad/s: human joints are slower; hinge angles are faster near gimbal lock, at 90 degrees
MANY_CLAMPED = 0.2  # of the frames
EPISODE = 10.0  # s, of an episode: one of a shorter motion that does not loop ends with it


@dataclass(frozen=True)
class Summary:
    """Figures of a motion, and remarks on its faults."""

    name: str
    source: str
    seconds: float
    frames: int
    loops: bool
    speed: float  # m/s, of the pelvis over the floor, on average
    clamped: int  # frames
    lowest_foot: float  # m above the floor
    fastest: float  # rad/s, of the fastest joint
    fastest_joint: str
    remarks: list[str]


def summary(motion: Motion) -> Summary:
    """Return the figures of one motion."""
    speeds = np.abs(np.diff(motion.qpos[:, ROOT_SIZE:], axis=0)) * CONTROL_RATE
    fastest = int(speeds.max(0).argmax())
    way = float(np.linalg.norm(np.diff(motion.qpos[:, :2], axis=0), axis=-1).sum())
    heights = lowest_points(motion.qpos)
    lowest_foot = float(heights[:, FEET].min())
    remarks = []
    if lowest_foot > NEAR_FLOOR:
        remarks.append("no foot ever stands on the floor")
    lowest = float(heights.min())
    if lowest < -NEAR_FLOOR:
        remarks.append(f"{-100 * lowest:.0f} cm into the floor")
    if motion.clamped > MANY_CLAMPED * len(motion.qpos):
        remarks.append("often beyond the joints' ranges")
    if speeds.max() > FAST:
        remarks.append(f"too fast: {JOINTS[fastest]}")
    if motion.seconds < EPISODE and not motion.loops:
        remarks.append(f"shorter than {EPISODE:.0f} s")
    return Summary(
        name=motion.name,
        source=motion.source,
        seconds=motion.seconds,
        frames=len(motion.qpos),
        loops=motion.loops,
        speed=way / motion.seconds,
        clamped=motion.clamped,
        lowest_foot=lowest_foot,
        fastest=float(speeds.max()),
        fastest_joint=JOINTS[fastest],
        remarks=remarks,
    )
