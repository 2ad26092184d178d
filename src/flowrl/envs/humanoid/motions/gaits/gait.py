"""Gaits, computed: where the feet stand, how the trunk sways over them, and from that every angle of the humanoid.

A gait's pelvis glides along a path of constant velocity and turning rate, whatever the rest does: gaits along one
path differ in their arms and their steps alone. A foot stands flat and still, on a foothold beside the path; between
footholds it swings. The trunk leans from side to side so that the pressure on the floor is under the standing foot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowrl.envs.humanoid.model import CONTROL_RATE, JOINTS, OUT, Side, build
from flowrl.envs.humanoid.motions.gaits import arm_styles as arm_styles
from flowrl.envs.humanoid.motions.gaits import leg_ik
from flowrl.envs.humanoid.motions.gaits.mass import MassDistribution, mass_distribution
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.motions.quaternions import Array, axis_rotation

MIDSTANCE: dict[Side, float] = {"left": 0.0, "right": 0.5}  # of a stride: a foot is halfway through standing
DUTY_FACTOR = 0.55  # share of a stride during which a foot stands
HALF_STEP_WIDTH = 0.08  # m, at least, from the path out to a foothold
PRESSURE_INSET = 0.03  # m, from a foothold to where the pressure under the foot should be, inwards
WEIGHT_FORWARD = (
    0.02  # m, from the ankle of a foothold forward to where the weight should be, well within the sole
)
CLEARANCE = (
    0.05,
    0.03,
)  # m, of the swinging foot: in place, and how much more per m/s, as it lags behind then

GRAVITY = 9.81  # m/s²
HARMONICS = np.array([1, 3, 5])  # of a stride: those of which the sway consists


@dataclass(frozen=True)
class RootPath:
    """Where the pelvis goes: an arc at constant speed, a straight line, or nowhere."""

    forward: float = 0.0  # m/s
    sideways: float = 0.0  # m/s, to the left
    turn: float = 0.0  # rad/s, to the left

    @property
    def speed(self) -> float:
        """m/s, in whichever direction."""
        return math.hypot(self.forward, self.sideways)

    @property
    def height(self) -> float:
        """m, of the pelvis: a little under STANDING_HEIGHT, for a leg that is straight has no angle to give, and lower
        at speed, where the feet stand further from under it."""
        return 0.865 - 0.05 * self.speed**2

    def heading(self, time: Array) -> Array:
        """rad (…) about z at `time` (…) in s."""
        return self.turn * time

    def position(self, time: Array) -> Array:
        """m (…, 2) on the floor: the integral of the velocity, which turns with the heading.

        With h half the heading: velocity turned by h · time · sin(h) / h.
        """
        half = self.heading(time) / 2
        return to_world(half, self.forward, self.sideways) * (time * np.sinc(half / np.pi))[..., None]

    def acceleration(self) -> tuple[float, float]:
        """m/s² (forward, left): turn × velocity."""
        return -self.turn * self.sideways, self.turn * self.forward


@dataclass(frozen=True)
class Gait:
    """A way of stepping along a path."""

    path: RootPath = RootPath()
    stride: int = 28  # frames from one touching down of a foot to its next
    arms: arm_styles.Style = "swing"
    seconds: float = 14.0  # at least: a motion has whole strides
    steps: bool = True  # else both feet stand all the time, and the path leads nowhere

    @property
    def stride_seconds(self) -> float:
        """s."""
        return self.stride / CONTROL_RATE

    @property
    def mass(self) -> MassDistribution:
        """Of the humanoid, its arms carried so."""
        return mass_distribution(self.arms)

    @property
    def half_step_width(self) -> float:
        """m, from the path out to a foothold: far enough that a foot does not come down on the other one."""
        return max(
            HALF_STEP_WIDTH, HALF_STEP_WIDTH - 0.015 + abs(self.path.sideways) * self.stride_seconds / 4
        )


def generate(gait: Gait, name: str, source: str = "") -> Motion:
    """The motion, which loops. Raises ValueError for a gait that the humanoid's body cannot do."""
    if not gait.steps and gait.path != RootPath():
        raise ValueError("who does not step stays where he is")
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
    """Where an ankle is (frames, 3) and where the foot points (frames,) in rad, at `phase` (frames,) of a stride."""
    own = phase - MIDSTANCE[side]
    nearest = np.floor(own + 0.5)  # the foothold whose time is nearest
    off = own - nearest
    swings = (np.abs(off) > DUTY_FACTOR / 2) & gait.steps
    last = np.where(swings & (off < 0), nearest - 1, nearest)
    share = np.where(swings, (own - last - DUTY_FACTOR / 2) / (1 - DUTY_FACTOR), 0.0)
    (from_place, from_toes), (to_place, to_toes) = foothold(gait, side, last), foothold(gait, side, last + 1)
    gone = share**2 * (3 - 2 * share)
    lift = (CLEARANCE[0] + CLEARANCE[1] * gait.path.speed) * (4 * share * (1 - share)) ** 1.5
    place = from_place + gone[:, None] * (to_place - from_place)
    return np.column_stack([place, leg_ik.ANKLE_HEIGHT + lift]), from_toes + gone * (to_toes - from_toes)


def foothold(gait: Gait, side: Side, number: Array) -> tuple[Array, Array]:
    """Where an ankle stands (…, 2) in m and where the foot points (…) in rad, stride by stride.

    The weight is where the path is, or on a curve further out: at c - z / g · acceleration, with c the centre of mass
    and z its height.
    """
    time = (number + MIDSTANCE[side]) * gait.stride_seconds
    heading = gait.path.heading(time)
    tilt = (gait.path.height + gait.mass.height) / GRAVITY
    forward, left = (-tilt * part for part in gait.path.acceleration())
    aside = to_world(
        heading, forward + gait.mass.forward - WEIGHT_FORWARD, left + gait.half_step_width * OUT[side]
    )
    return gait.path.position(time) + aside, heading


def trunk_lean(gait: Gait, phase: Array) -> Array:
    """How far the trunk leans to the left (frames,) in rad, so that the pressure on the floor is under a foot.

    The pressure p should be `apart` - PRESSURE_INSET to the left while the left foot stands alone, as far to the right
    while the right one does, and go over evenly while both stand: a trapezoid, as a Fourier series in the stride's
    frequency ω. Let the trunk (mass m of all M, centre at height z, lever l over the waist, inertia I) lean by φ.
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
    """The vector (…, 2) that lies `forward` and `left` for who looks along `heading` (…) in rad."""
    cosine, sine = np.cos(heading), np.sin(heading)
    return np.stack([forward * cosine - left * sine, forward * sine + left * cosine], axis=-1)


def _put(qpos: Array, joint: str, angles: Array) -> None:
    """Write `angles` (frames,) or (frames, n) for a hinge and those that follow it."""
    first = ROOT_SIZE + JOINTS.index(joint)
    columns = angles[:, None] if angles.ndim == 1 else angles
    qpos[:, first : first + columns.shape[1]] = columns


def check_ranges(qpos: Array) -> None:
    """ValueError where an angle of `qpos` (frames, 35) is beyond its joint's range."""
    low, high = build().jnt_range[1:].T
    outside = ((qpos[:, ROOT_SIZE:] < low) | (qpos[:, ROOT_SIZE:] > high)).any(0)
    if outside.any():
        names = ", ".join(name for name, beyond in zip(JOINTS, outside, strict=True) if beyond)
        raise ValueError(f"the gait leaves the range of {names}")
