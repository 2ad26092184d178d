"""FishSwim: a fish in still water brings its mouth to a target (dm_control `fish`, `swim`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import tolerance
from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import normal, uniform


@dataclass(frozen=True, kw_only=True)
class FishConstants(DMControlConstants):
    """FishSwim's numbers."""

    camera: int | str = "fixed_top"  # the first follows the fish, and away from the target
    start_angle: float = 0.2  # rad, a joint's start is at most this far from straight
    start_height: float = 0.1  # m, of the torso above the ground
    target_low: tuple[float, float, float] = (-0.4, -0.4, 0.1)  # m, corners of the box in which targets lie
    target_high: tuple[float, float, float] = (0.4, 0.4, 0.3)
    contacts: bool = True  # whether contacts are detected; they exert no force either way
    ballast_radius: float | None = None  # m, of a ball that gives the torso its mass; None: the model's box
    upright_first: bool = False  # whether `upright` comes before the joint angles in an observation


PROFILES = {
    "dmc": FishConstants(timestep=0.004, substeps=10),
    "playground": FishConstants(
        timestep=0.002,
        substeps=20,
        implicit_damping=False,
        iterations=2,
        ls_iterations=6,
        start_height=0.0,
        contacts=False,
        ballast_radius=0.03,
        upright_first=True,
    ),
}


class FishSwim(DMControlTask[FishConstants]):
    """Swim in still water and bring the mouth to a target."""

    model = "fish"
    facts: ClassVar = {
        "start": "any orientation, joints nearly straight, all at rest; the target uniform in a box",
        "observation": "angles of seven joints, uprightness (cosine between the torso's z axis and the world's), from "
        "mouth to target along the mouth's axes, velocities (the torso's in the world, its rotation in its own axes)",
        "reward": "(7 · near + (1 + upright) / 2) / 8, near = 1 where mouth and target touch, and 0.1 at three times "
        "that distance",
    }
    varied = ("geom_pos",)

    @classmethod
    def build(cls, constants: FishConstants) -> mujoco.MjModel:
        fish = cls.specification(constants)
        if not constants.contacts:
            fish.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        if constants.ballast_radius is not None:
            ballast = fish.geom("torso_massive")
            ballast.type = mujoco.mjtGeom.mjGEOM_SPHERE
            ballast.size = (constants.ballast_radius, 0, 0)
        return fish.compile()

    def __init__(self, simulation: Simulation, constants: FishConstants) -> None:
        super().__init__(simulation, constants)  # qpos (count, 14): position, quaternion, joints
        model = simulation.model
        self.target = simulation.expand("geom_pos")[:, model.geom("target").id]  # (count, 3)
        mouth = model.geom("mouth")
        self.mouth_position = simulation.constant(mouth.pos)  # (3,) m, in the torso's axes
        self.mouth_axes = matrix(simulation.constant(mouth.quat))  # (3, 3)
        self.contact_distance = float(mouth.size[0] + model.geom("target").size[0])
        largest = [constants.start_angle] * (model.nq - 7)
        self.low = simulation.constant([*(-angle for angle in largest), *constants.target_low])
        self.high = simulation.constant([*largest, *constants.target_high])

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        orientation = self.qpos[:, 3:7]
        quaternion = normal(orientation, len(rows), random)
        joints_and_target = uniform(self.low, self.high, len(rows), random)
        self.qpos[rows, 2] = self.constants.start_height
        orientation[rows] = quaternion / quaternion.norm(dim=1, keepdim=True)
        self.qpos[rows, 7:] = joints_and_target[:, :-3]
        self.target[rows] = joints_and_target[:, -3:]

    def parts(self) -> dict[str, Tensor]:
        torso = self.torso_axes()
        upright, angles = {"upright": torso[:, 2, 2:]}, {"joint_angles": self.qpos[:, 7:]}
        posture = upright | angles if self.constants.upright_first else angles | upright
        return posture | {"target": self.to_target(torso), "velocity": self.qvel}

    def reward(self) -> Tensor:
        torso, distance = self.torso_axes(), self.contact_distance
        near = tolerance(self.to_target(torso).norm(dim=1), (0, distance), margin=2 * distance)
        return (7 * near + (1 + torso[:, 2, 2]) / 2) / 8

    def torso_axes(self) -> Tensor:
        """Compute the torso's axes as columns, (count, 3, 3)."""
        return matrix(self.qpos[:, 3:7])

    def to_target(self, torso: Tensor) -> Tensor:
        """Compute the vector (count, 3) from mouth to target along the axes of the mouth, a child of the torso; m."""
        from_torso = torch.einsum("nw, nwt -> nt", self.target - self.qpos[:, :3], torso)
        return (from_torso - self.mouth_position) @ self.mouth_axes


def matrix(quaternion: Tensor) -> Tensor:
    """Convert to rotation matrices (…, 3, 3) the unit quaternions w, x, y, z (…, 4)."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
