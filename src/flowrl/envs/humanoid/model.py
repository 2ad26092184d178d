"""The humanoid: 15 segments, 28 hinges, 45 kg, from the tables below.

Lengths, masses, gains and torque limits are those of DeepMimic's humanoid (Peng et al. 2018, arXiv 1804.02717,
published as `humanoid3d.txt`), turned so that x points forward, y to the left and z up; the joint ranges are our own.
In the zero pose it stands straight with hanging arms, its pelvis at STANDING_HEIGHT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import mujoco

from flowrl.envs.simulation.mujoco_batch import WORKSPACE

SUBSTEPS = 4
CONTROL_RATE = 30  # Hz
TIMESTEP = 1 / (CONTROL_RATE * SUBSTEPS)  # s
STANDING_HEIGHT = 0.421546 + 0.409870 + 0.05  # m, of the pelvis: thigh, shin, and the ankle over the sole
DAMPING_SHARE = 0.05  # s, kv of a joint's controller over its kp
ARMATURE = 0.02  # kg m², added to every joint's inertia

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """A segment's geometry: centre in the segment's frame, and sizes by MuJoCo's conventions; m."""

    kind: Literal["sphere", "capsule", "box"]
    centre: Vector
    size: tuple[float, ...]  # sphere: radius; capsule, along z: radius and half length; box: half lengths


@dataclass(frozen=True)
class Motors:
    """The hinges of a segment: ranges about x, y and z in degrees (None: no such hinge), controller and limit."""

    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    z: tuple[float, float] | None = None
    stiffness: float = 0.0  # N m / rad
    most_torque: float = 0.0  # N m


@dataclass(frozen=True)
class Segment:
    """A body of the humanoid, its place on its parent, and the motors of its hinges."""

    name: str
    parent: str | None
    place: Vector  # m, in the parent's frame
    mass: float  # kg
    shape: Shape
    motors: Motors = field(default_factory=Motors)


Side = Literal["right", "left"]
OUT: dict[Side, float] = {"right": -1.0, "left": 1.0}  # where y points outward


def outward(side: Side, most: float, inward: float) -> tuple[float, float]:
    """Return a range about x in which a limb moves outward by `most` degrees, and inward."""
    return (-most, inward) if side == "right" else (-inward, most)


def arm(side: Side) -> tuple[Segment, ...]:
    """Return upper arm, forearm and hand."""
    upper_arm, forearm = f"{side}_upper_arm", f"{side}_forearm"
    return (
        Segment(
            *(upper_arm, "chest", (-0.02405, 0.18311 * OUT[side], 0.24350), 1.5),
            Shape("capsule", (0, 0, -0.14), (0.045, 0.09)),
            Motors(outward(side, 180, 60), (-180, 90), (-90, 90), 400, 100),
        ),
        Segment(
            *(forearm, upper_arm, (0, 0, -0.274788), 1.0),
            Shape("capsule", (0, 0, -0.12), (0.04, 0.0675)),
            Motors(y=(-160, 0), stiffness=300, most_torque=60),
        ),
        Segment(f"{side}_hand", forearm, (0, 0, -0.258947), 0.5, Shape("sphere", (0, 0, 0), (0.04,))),
    )


def leg(side: Side) -> tuple[Segment, ...]:
    """Return thigh, shin and foot."""
    thigh, shin = f"{side}_thigh", f"{side}_shin"
    return (
        Segment(
            *(thigh, "pelvis", (0, 0.084887 * OUT[side], 0), 4.5),
            Shape("capsule", (0, 0, -0.21), (0.055, 0.15)),
            Motors(outward(side, 60, 45), (-140, 60), (-60, 60), 500, 200),
        ),
        Segment(
            *(shin, thigh, (0, 0, -0.421546), 3.0),
            Shape("capsule", (0, 0, -0.20), (0.05, 0.155)),
            Motors(y=(0, 160), stiffness=500, most_torque=150),
        ),
        Segment(
            *(f"{side}_foot", shin, (0, 0, -0.409870), 1.0),
            Shape("box", (0.045, 0, -0.0225), (0.0885, 0.045, 0.0275)),
            Motors((-45, 45), (-60, 60), (-45, 45), 400, 90),
        ),
    )


SEGMENTS: tuple[Segment, ...] = (
    Segment("pelvis", None, (0, 0, STANDING_HEIGHT), 6.0, Shape("sphere", (0, 0, 0.07), (0.09,))),
    Segment(
        *("chest", "pelvis", (0, 0, 0.236151), 14.0),
        Shape("sphere", (0, 0, 0.12), (0.11,)),
        Motors((-70, 70), (-60, 90), (-70, 70), 1000, 200),
    ),
    Segment(
        *("head", "chest", (0, 0, 0.223894), 2.0),
        Shape("sphere", (0, 0, 0.175), (0.1025,)),
        Motors((-60, 60), (-60, 60), (-80, 80), 100, 50),
    ),
    *arm("right"),
    *arm("left"),
    *leg("right"),
    *leg("left"),
)
"""Depth first, as MuJoCo numbers them: the order of bodies and, x before y before z, of hinges."""

BODIES: tuple[str, ...] = tuple(segment.name for segment in SEGMENTS)
ROOT = BODIES.index("pelvis")
HANDS = (BODIES.index("right_hand"), BODIES.index("left_hand"))
FEET = (BODIES.index("right_foot"), BODIES.index("left_foot"))
JOINTS: tuple[str, ...] = tuple(
    f"{segment.name}_{axis}" for segment in SEGMENTS for axis in "xyz" if getattr(segment.motors, axis) is not None
)
"""The 28 hinges in the order of `qpos[7:]`, `qvel[6:]` and `ctrl`; each turns its segment against the parent."""


def build(self_collision: bool = False) -> mujoco.MjModel:
    """Compile the model: the humanoid over a floor, a position controller on every hinge.

    Segments collide with the floor alone, or with `self_collision` with one another, too. `ctrl` are angles in rad.
    """
    spec = mujoco.MjSpec()
    spec.memory = WORKSPACE
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.visual.headlight.ambient = (0.4, 0.4, 0.4)
    world = spec.worldbody
    _scenery(spec)
    bodies: dict[str | None, mujoco.MjsBody] = {None: world}
    for segment in SEGMENTS:
        body = bodies[segment.parent].add_body(name=segment.name, pos=segment.place)
        bodies[segment.name] = body
        if segment.parent is None:
            body.add_freejoint(name="root")
        _shape(body, segment, self_collision)
        _hinges(spec, body, segment)
    bodies["pelvis"].add_light(  # a light casts shadows only near itself
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        pos=(0, 0, 5),
        dir=(0, 0, -1),
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )
    bodies["pelvis"].add_camera(
        name="follow",
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
        pos=(0.5, -3.2, 0.5),
        xyaxes=(1, 0.15, 0, 0, 0.17, 1),
    )
    return spec.compile()


def _scenery(spec: mujoco.MjSpec) -> None:
    """Add sky and floor."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(0.95, 0.96, 0.97),
        rgb2=(0.75, 0.82, 0.9),
        width=64,
        height=384,
    )
    spec.add_texture(
        name="grid",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=(0.82, 0.84, 0.86),
        rgb2=(0.72, 0.75, 0.78),
        width=300,
        height=300,
    )
    grid = spec.add_material(name="floor", texrepeat=(1, 1), texuniform=True)
    grid.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "grid"
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), material="floor", friction=(1, 0.05, 0.05)
    )


def _shape(body: mujoco.MjsBody, segment: Segment, self_collision: bool) -> None:
    kinds = {
        "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
        "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
        "box": mujoco.mjtGeom.mjGEOM_BOX,
    }
    shape = segment.shape
    body.add_geom(
        name=segment.name,
        type=kinds[shape.kind],
        pos=shape.centre,
        size=[*shape.size, *[0.0] * (3 - len(shape.size))],
        mass=segment.mass,
        contype=int(self_collision),  # the floor's is 1, with which everything collides
        conaffinity=1,
        friction=(1, 0.05, 0.05),
        rgba=(0.45, 0.55, 0.7, 1),
    )


def _hinges(spec: mujoco.MjSpec, body: mujoco.MjsBody, segment: Segment) -> None:
    """Add the segment's hinges in series, each with its position controller."""
    motors = segment.motors
    for number, axis in enumerate("xyz"):
        limits = getattr(motors, axis)
        if limits is None:
            continue
        name = f"{segment.name}_{axis}"
        body.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[float(number == place) for place in range(3)],
            range=[math.radians(limit) for limit in limits],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            armature=ARMATURE,
        )
        actuator = spec.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            forcerange=(-motors.most_torque, motors.most_torque),
            forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
        )
        actuator.set_to_position(kp=motors.stiffness, kv=DAMPING_SHARE * motors.stiffness)
