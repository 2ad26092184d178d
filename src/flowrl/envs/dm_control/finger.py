"""FingerSpin, FingerTurnEasy and FingerTurnHard: a finger of two links pushes a free spinner (dm_control `finger`,
`spin`, `turn_easy`, `turn_hard`).

Everything moves in the vertical x-z plane, and places are seen from the spinner's hinge. The tip is a point fixed
to the spinner; a target is a disc somewhere on the circle of the spinner's end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.task import DMControlConstants, compiled, uniform
from flowrl.envs.simulation.mujoco_batch import Simulation


@dataclass(frozen=True, kw_only=True)
class FingerConstants(DMControlConstants):
    """The finger's numbers."""

    hinge_damping: float  # N·m·s/rad, of the spinner
    spinning: float = 15.0  # rad/s, FingerSpin rewards no less
    target_radius: float = 0.03  # m, of the FingerTurn tasks
    elliptic_cone: bool = True  # friction cones as they are, rather than as pyramids
    bearings_collide: bool = True  # whether the cylinders at the two fixed hinges touch other geoms
    start_apart: bool = True  # whether a start in which geoms touch is drawn again


TURN_HARD = {
    "dmc": FingerConstants(timestep=0.01, substeps=2, hinge_damping=0.5, iterations=200),
    "playground": FingerConstants(
        timestep=0.005,
        substeps=4,
        hinge_damping=0.5,
        integrator="implicitfast",
        implicit_damping=False,
        iterations=2,
        ls_iterations=8,
        elliptic_cone=False,
        bearings_collide=False,
        start_apart=False,
    ),
}
TURN_EASY = {profile: replace(constants, target_radius=0.07) for profile, constants in TURN_HARD.items()}
SPIN = {profile: replace(constants, hinge_damping=0.03) for profile, constants in TURN_HARD.items()}


def build_finger(constants: FingerConstants) -> mujoco.MjModel:
    """The finger, with the contacts, the target and the hinge of `constants`."""
    finger = compiled("finger", constants)
    cone = mujoco.mjtCone.mjCONE_ELLIPTIC if constants.elliptic_cone else mujoco.mjtCone.mjCONE_PYRAMIDAL
    finger.opt.cone = int(cone)
    finger.joint("hinge").damping = constants.hinge_damping
    finger.site("target").size[0] = constants.target_radius
    if not constants.bearings_collide:
        for bearing in ("proximal_decoration", "spinner_decoration"):
            finger.geom(bearing).contype = finger.geom(bearing).conaffinity = 0
    return finger


class Finger:
    """What the finger's tasks share: its random postures and its senses."""

    def __init__(self, simulation: Simulation, constants: FingerConstants) -> None:
        model = simulation.model
        self.simulation, self.constants = simulation, constants
        self.qpos, self.qvel = simulation.bind("qpos"), simulation.bind("qvel")  # proximal, distal, hinge
        sensors = simulation.latest("sensordata")
        top, bottom = (int(model.sensor(name).adr[0]) for name in ("touchtop", "touchbottom"))
        self.force = sensors[:, top : bottom + 1]  # (count, 2) N, on the two halves of the fingertip
        self.tip_height = float(model.site("tip").pos[2])  # m above the hinge when its angle is 0
        limited = torch.tensor(model.jnt_limited, dtype=torch.bool)
        low, high = torch.tensor(model.jnt_range).T
        self.low, self.high = torch.where(limited, low, -math.pi), torch.where(limited, high, math.pi)

    def place(self, rows: Tensor, random: torch.Generator) -> None:
        """Draw the three angles of `rows`: uniform in the joint's range, or in the full circle."""
        while len(rows):
            self.qpos[rows] = uniform(self.low, self.high, len(rows), random)
            if not self.constants.start_apart:
                return
            rows = rows[self.simulation.contacts(rows) > 0]

    def tip(self) -> Tensor:
        """(count, 2): x and z in metres. The hinge turns from z against x."""
        angle = self.qpos[:, 2]
        return self.tip_height * torch.stack((-angle.sin(), angle.cos()), dim=1)

    def senses(self) -> Tensor:
        """(count, 9): two joint angles, tip in x and z, three velocities, log(1 + force) on two touch sensors."""
        return torch.cat((self.qpos[:, :2], self.tip(), self.qvel, self.force.log1p()), dim=1)


class FingerSpin:
    """Start: joints anywhere in their range, the hinge at any angle, nothing in touch; all at rest.

    Observation (9): angles of the two joints, tip in x and z, velocities of the joints and the hinge, touch.
    Reward: 1 where the hinge turns at 15 rad/s or more, in the negative direction, else 0.
    """

    observation_parts: ClassVar = {"position": 4, "velocity": 3, "touch": 2}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: FingerConstants) -> mujoco.MjModel:
        finger = build_finger(constants)
        for mark in ("target", "tip"):  # of the other tasks: not to be seen here
            finger.site(mark).rgba[3] = 0
        return finger

    def __init__(self, simulation: Simulation, constants: FingerConstants) -> None:
        self.constants = constants
        self.finger = Finger(simulation, constants)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        self.finger.place(rows, random)

    def observation(self) -> Tensor:
        return self.finger.senses()

    def reward(self) -> Tensor:
        return (self.finger.qvel[:, 2] <= -self.constants.spinning).double()


class FingerTurn:
    """Start: as FingerSpin's, with the target at any angle.

    Observation (12): as FingerSpin's, then the target in x and z, and the distance from the tip to its rim.
    Reward: 1 where the tip is in the target, else 0.
    """

    observation_parts: ClassVar = FingerSpin.observation_parts | {"target_position": 2, "dist_to_target": 1}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ("site_pos",)

    @staticmethod
    def build(constants: FingerConstants) -> mujoco.MjModel:
        return build_finger(constants)

    def __init__(self, simulation: Simulation, constants: FingerConstants) -> None:
        model = simulation.model
        self.constants = constants
        self.finger = Finger(simulation, constants)
        self.target_place = simulation.expand("site_pos")[:, model.site("target").id, ::2]  # (count, 2) x, z
        self.hinge_place = torch.tensor(model.body("spinner").pos[::2])  # (2,) x, z
        self.spinner_radius = float(model.geom("cap1").size[:2].sum())  # m, from the hinge to the ends

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        angle = math.pi * (2 * torch.rand(len(rows), dtype=torch.float64, generator=random) - 1)
        direction = torch.stack((angle.sin(), angle.cos()), dim=1)
        self.target_place[rows] = self.hinge_place + self.spinner_radius * direction
        self.finger.place(rows, random)

    def observation(self) -> Tensor:
        return torch.cat((self.finger.senses(), self.target(), self.distance()[:, None]), dim=1)

    def reward(self) -> Tensor:
        return (self.distance() <= 0).double()

    def target(self) -> Tensor:
        """(count, 2): x and z in metres."""
        return self.target_place - self.hinge_place

    def distance(self) -> Tensor:
        """(count,) metres from the tip to the target's rim, negative inside."""
        return (self.target() - self.finger.tip()).norm(dim=1) - self.constants.target_radius
