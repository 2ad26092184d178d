"""Generate gaits: footholds, swing trajectories and trunk lean, and from them every joint angle of the humanoid.

The pelvis moves along a path of constant velocity and turning rate, independently of the rest of the body, so gaits
along one path differ in their arms and steps only. In stance a foot is flat and still on a foothold beside the path; in
swing it moves to the next one. The trunk leans sideways so that the center of pressure is under the stance foot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.model import CONTROL_RATE, JOINTS, MODEL, OUT, Side
from flowrl.envs.humanoid.motions.gaits import arm_styles, leg_ik
from flowrl.envs.humanoid.motions.gaits.mass import MassDistribution, mass_distribution
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.motions.quaternions import Array, axis_rotation

MIDSTANCE: dict[Side, float] = {"left": 0.0, "right": 0.5}  # phase of a stride in the middle of stance
DUTY_FACTOR = 0.55  # stance time over stride time
HALF_STEP_WIDTH = 0.08  # m, at least, from the path sideways to a foothold
PRESSURE_INSET = 0.03  # m, from a foothold inwards to the center of pressure
WEIGHT_FORWARD = 0.02  # m, from the ankle forward to the weight's line of action, well within the sole
CLEARANCE = (0.05, 0.03)  # m, height of the swing foot in place, and m per m/s added to it

GRAVITY = 9.81  # m/s²
HARMONICS = np.array([1, 3, 5])  # of the stride frequency, in the lean of the trunk


@dataclass(frozen=True)
class RootPath:
    """The path of the pelvis: an arc or a straight line at constant speed, or a point."""

    forward: float = 0.0  # m/s
    sideways: float = 0.0  # m/s, to the left
    turn: float = 0.0  # rad/s, to the left

    @property
    def speed(self) -> float:
        """Return the speed in m/s, in any direction."""
        return math.hypot(self.forward, self.sideways)

    @property
    def height(self) -> float:
        """Return the pelvis's height in m: a little below STANDING_HEIGHT, as inverse kinematics needs bent legs, and
        lower at speed, where the footholds are further from the pelvis."""
        return 0.865 - 0.05 * self.speed**2

    def heading(self, time: Array) -> Array:
        """Return the heading (…) in rad about z at `time` (…) in s."""
        return self.turn * time

    def position(self, time: Array) -> Array:
        """Return the position (…, 2) in m on the floor: the integral of the velocity, which turns with the heading.

        With h half the heading: velocity turned by h · time · sin(h) / h.
        """
        half = self.heading(time) / 2
        return to_world(half, self.forward, self.sideways) * (time * np.sinc(half / np.pi))[..., None]

    def acceleration(self) -> tuple[float, float]:
        """Return the acceleration (forward, left) in m/s²: turn × velocity."""
        return -self.turn * self.sideways, self.turn * self.forward


@dataclass(frozen=True)
class Gait:
    """The parameters of a gait."""

    path: RootPath = RootPath()
    stride: int = 28  # frames from one touchdown of a foot to its next
    arms: arm_styles.Style = "swing"
    seconds: float = 14.0  # at least: a motion has complete strides
    steps: bool = True  # else both feet are always in stance, and the path must be a point

    @property
    def stride_seconds(self) -> float:
        """Return the stride time in s."""
        return self.stride / CONTROL_RATE

    @property
    def mass(self) -> MassDistribution:
        """Return the humanoid's mass distribution with the arms of this gait."""
        return mass_distribution(self.arms)

    @property
    def half_step_width(self) -> float:
        """Return the distance in m from the path to a foothold, large enough that the feet do not collide."""
        return max(HALF_STEP_WIDTH, HALF_STEP_WIDTH - 0.015 + abs(self.path.sideways) * self.stride_seconds / 4)


def generate(gait: Gait, name: str, source: str = "") -> Motion:
    """Return the motion of a gait, which loops. Raises ValueError for a gait beyond the humanoid's joints or legs."""
    if not gait.steps and gait.path != RootPath():
        raise ValueError("a gait without steps cannot follow a path")
    strides = math.ceil(gait.seconds / gait.stride_seconds - 1e-9)
    phase = np.arange(strides * gait.stride + 1) / gait.stride
    time = phase * gait.stride_seconds
    heading = gait.path.heading(time)
    height = np.full((len(time), 1), gait.path.height)
    pelvis, turn = np.concatenate([gait.path.position(time), height], axis=-1), axis_rotation("z", heading)
    qpos = np.zeros((len(phase), ROOT_SIZE + len(JOINTS)))
    qpos[:, :3], qpos[:, 3:ROOT_SIZE] = pelvis, turn
    lean = trunk_lean(gait, phase)
    _put(qpos, "chest_x", -lean)
    _put(qpos, "head_x", lean)  # the eyes stay level
    for side in MIDSTANCE:
        ankle, toes = foot_pose(gait, side, phase)
        hinges = leg_ik.angles(pelvis, turn, ankle, axis_rotation("z", toes), side, toes - heading)
        _put(qpos, f"{side}_thigh_x", hinges)
        _put(qpos, f"{side}_upper_arm_x", arm_styles.angles(gait.arms, side, phase, time, gait.path.forward))
    check_ranges(qpos)
    return Motion(name, qpos, source, loops=True)


def foot_pose(gait: Gait, side: Side, phase: Array) -> tuple[Array, Array]:
    """Return ankle positions (frames, 3) in m and foot headings (frames,) in rad at `phase` (frames,) of a stride."""
    strides = phase - MIDSTANCE[side]
    nearest = np.floor(strides + 0.5)  # the foothold nearest in time
    off = strides - nearest
    swings = (np.abs(off) > DUTY_FACTOR / 2) & gait.steps
    last = np.where(swings & (off < 0), nearest - 1, nearest)
    share = np.where(swings, (strides - last - DUTY_FACTOR / 2) / (1 - DUTY_FACTOR), 0.0)
    (start, from_toes), (end, to_toes) = foothold(gait, side, last), foothold(gait, side, last + 1)
    progress = share**2 * (3 - 2 * share)
    lift = (CLEARANCE[0] + CLEARANCE[1] * gait.path.speed) * (4 * share * (1 - share)) ** 1.5
    ankle = start + progress[:, None] * (end - start)
    return np.column_stack([ankle, leg_ik.ANKLE_HEIGHT + lift]), from_toes + progress * (to_toes - from_toes)


def foothold(gait: Gait, side: Side, number: Array) -> tuple[Array, Array]:
    """Return the ankle's position (…, 2) in m and the foot's heading (…) in rad in stance `number` (…).

    The weight acts at c - z / g · acceleration, with c the center of mass and z its height: on a straight path at the
    pelvis, in a curve outside of it.
    """
    time = (number + MIDSTANCE[side]) * gait.stride_seconds
    heading = gait.path.heading(time)
    tilt = (gait.path.height + gait.mass.height) / GRAVITY
    forward, left = (-tilt * part for part in gait.path.acceleration())
    aside = to_world(heading, forward + gait.mass.forward - WEIGHT_FORWARD, left + gait.half_step_width * OUT[side])
    return gait.path.position(time) + aside, heading


def trunk_lean(gait: Gait, phase: Array) -> Array:
    """Return the trunk's lean to the left (frames,) in rad that keeps the center of pressure under the stance foot.

    The center of pressure p should be `half_step_width` - PRESSURE_INSET to the left in left single support, as far
    to the right in right single support, and linear in between: a trapezoid, as a Fourier series in the stride
    frequency ω. Let the trunk (mass m of all M, center at height z, lever l above the waist, inertia I) lean by φ.
    Where the sum of moments is zero, M g p = m g l φ - (m z l + I) φ'', so the n-th harmonics are related by
    p = φ (m l / M + (m z l + I) (n ω)² / (M g)).
    """
    if not gait.steps:
        return np.zeros_like(phase)
    mass, n = gait.mass, HARMONICS
    omega = 2 * np.pi * n / gait.stride_seconds
    trapezoid = 4 / (np.pi * n) * np.sin(n * np.pi / 2) * np.sinc(n * (DUTY_FACTOR - 0.5))
    pressure = (gait.half_step_width - PRESSURE_INSET) * trapezoid
    moment = mass.trunk_mass * mass.trunk_lever
    inertia = moment * (gait.path.height + mass.trunk_height) + mass.trunk_inertia
    lean = pressure / (moment / mass.total + inertia * omega**2 / (mass.total * GRAVITY))
    return np.asarray((lean * np.cos(2 * np.pi * n * phase[:, None])).sum(-1))


def to_world(heading: Array, forward: float, left: float) -> Array:
    """Rotate a vector (…, 2) given as `forward` and `left` of `heading` (…) in rad to the world's x and y."""
    cosine, sine = np.cos(heading), np.sin(heading)
    return np.stack([forward * cosine - left * sine, forward * sine + left * cosine], axis=-1)


def _put(qpos: Array, joint: str, angles: Array) -> None:
    """Write `angles` (frames,) or (frames, n) for a hinge and those after it."""
    first = ROOT_SIZE + JOINTS.index(joint)
    columns = angles[:, None] if angles.ndim == 1 else angles
    qpos[:, first : first + columns.shape[1]] = columns


def check_ranges(qpos: Array) -> None:
    """Raise ValueError where an angle of `qpos` (frames, 35) is outside its joint's range."""
    low, high = MODEL.jnt_range[1:].T
    outside = ((qpos[:, ROOT_SIZE:] < low) | (qpos[:, ROOT_SIZE:] > high)).any(0)
    if outside.any():
        names = ", ".join(name for name, beyond in zip(JOINTS, outside, strict=True) if beyond)
        raise ValueError(f"the gait leaves the range of {names}")
