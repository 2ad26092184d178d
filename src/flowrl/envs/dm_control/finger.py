"""FingerSpin, FingerTurnEasy and FingerTurnHard: a finger of two links pushes a free spinner (dm_control `finger`,
`spin`, `turn_easy`, `turn_hard`).

Everything moves in the vertical x-z plane, and positions are relative to the spinner's hinge. The tip is a point fixed
to the spinner; a target is a disc somewhere on the circle of the spinner's end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import uniform


@dataclass(frozen=True, kw_only=True)
class FingerConstants(DMControlConstants):
    """The finger's numbers."""

    hinge_damping: float  # N·m·s/rad, of the spinner
    spinning: float = 15.0  # rad/s, FingerSpin rewards no less
    target_radius: float = 0.03  # m, of the FingerTurn tasks
    elliptic_cone: bool = True  # elliptic friction cones rather than pyramids
    bearings_collide: bool = True  # whether the cylinders at the two fixed hinges touch other geoms
    start_without_contact: bool = True  # whether a start in which geoms touch is drawn again


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
        start_without_contact=False,
    ),
}
TURN_EASY = {profile: replace(constants, target_radius=0.07) for profile, constants in TURN_HARD.items()}
SPIN = {profile: replace(constants, hinge_damping=0.03) for profile, constants in TURN_HARD.items()}


class Finger(DMControlTask[FingerConstants]):
    """The shared part of the finger's tasks: the model, its random postures and its sensors."""

    model = "finger"

    @classmethod
    def build(cls, constants: FingerConstants) -> mujoco.MjModel:
        finger = super().build(constants)
        cone = mujoco.mjtCone
        finger.opt.cone = int(cone.mjCONE_ELLIPTIC if constants.elliptic_cone else cone.mjCONE_PYRAMIDAL)
        finger.joint("hinge").damping = constants.hinge_damping
        finger.site("target").size[0] = constants.target_radius
        if not constants.bearings_collide:
            for bearing in ("proximal_decoration", "spinner_decoration"):
                finger.geom(bearing).contype = finger.geom(bearing).conaffinity = 0
        return finger

    def __init__(self, simulation: Simulation, constants: FingerConstants) -> None:
        super().__init__(simulation, constants)  # qpos and qvel (count, 3): proximal, distal, hinge
        model = simulation.model
        sensors = simulation.latest("sensordata")
        top, bottom = (int(model.sensor(name).adr[0]) for name in ("touchtop", "touchbottom"))
        self.force = sensors[:, top : bottom + 1]  # (count, 2) N, on the two halves of the fingertip
        self.tip_height = float(model.site("tip").pos[2])  # m above the hinge when its angle is 0
        limited = model.jnt_limited[:, None].astype(bool)
        ranges = np.where(limited, model.jnt_range, (-math.pi, math.pi))
        self.low, self.high = simulation.constant(ranges).T

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        """Draw the three angles of `rows`: uniform in the joint's range, or in the full circle."""
        while len(rows):
            self.qpos[rows] = uniform(self.low, self.high, len(rows), random)
            if not self.constants.start_without_contact:
                return
            rows = rows[self.simulation.contacts(rows) > 0]

    def parts(self) -> dict[str, Tensor]:
        """Compute two joint angles and the tip in x and z, three velocities, and log(1 + force) of two sensors."""
        position = torch.cat((self.qpos[:, :2], self.tip()), dim=1)
        return {"position": position, "velocity": self.qvel, "touch": self.force.log1p()}

    def tip(self) -> Tensor:
        """Compute the tip's x and z (count, 2) in metres. The hinge turns from z against x."""
        angle = self.qpos[:, 2]
        return self.tip_height * torch.stack((-angle.sin(), angle.cos()), dim=1)


class FingerSpin(Finger):
    """Spin the hinge."""

    facts: ClassVar = {
        "start": "joints anywhere in their range, the hinge at any angle, nothing in touch; all at rest",
        "observation": "angles of the two joints, tip in x and z, velocities of the joints and the hinge, touch",
        "reward": "1 where the hinge turns at 15 rad/s or more, in the negative direction, else 0",
    }

    @classmethod
    def build(cls, constants: FingerConstants) -> mujoco.MjModel:
        finger = super().build(constants)
        for mark in ("target", "tip"):  # of the other tasks: invisible here
            finger.site(mark).rgba[3] = 0
        return finger

    def reward(self) -> Tensor:
        return (self.qvel[:, 2] <= -self.constants.spinning).to(self.qvel.dtype)


class FingerTurn(Finger):
    """Turn the tip into a target."""

    facts: ClassVar = {
        "start": "as FingerSpin's, with the target at any angle",
        "observation": "as FingerSpin's, then the target in x and z, and the distance from the tip to its rim",
        "reward": "1 where the tip is in the target, else 0",
    }
    varied = ("site_pos",)

    def __init__(self, simulation: Simulation, constants: FingerConstants) -> None:
        super().__init__(simulation, constants)
        model = simulation.model
        target = model.site("target").id
        self.target_position = simulation.expand("site_pos")[:, target, ::2]  # (count, 2) m: x, z
        self.hinge_position = simulation.constant(model.body("spinner").pos[::2])  # (2,) m: x, z
        self.spinner_radius = float(model.geom("cap1").size[:2].sum())  # m, from the hinge to the ends

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        draws = torch.rand(len(rows), dtype=torch.float64, generator=random).to(self.qpos)
        angle = math.pi * (2 * draws - 1)
        direction = torch.stack((angle.sin(), angle.cos()), dim=1)
        self.target_position[rows] = self.hinge_position + self.spinner_radius * direction
        super().reset(rows, random)

    def parts(self) -> dict[str, Tensor]:
        return super().parts() | {"target_position": self.target(), "dist_to_target": self.distance()[:, None]}

    def reward(self) -> Tensor:
        return (self.distance() <= 0).to(self.qpos.dtype)

    def target(self) -> Tensor:
        """Compute the target's x and z from the hinge (count, 2), in metres."""
        return self.target_position - self.hinge_position

    def distance(self) -> Tensor:
        """Compute the distance (count,) from the tip to the target's rim in metres, negative inside."""
        return (self.target() - self.tip()).norm(dim=1) - self.constants.target_radius
