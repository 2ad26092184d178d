"""FishSwim: a fish in still water brings its mouth to a target (dm_control `fish`, `swim`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import tolerance
from flowrl.envs.dm_control.task import DMControlConstants, specification, uniform
from flowrl.envs.simulation.mujoco_batch import Simulation


@dataclass(frozen=True, kw_only=True)
class FishConstants(DMControlConstants):
    """FishSwim's numbers."""

    camera: int | str = "fixed_top"  # the first follows the fish, and away from the target
    start_angle: float = 0.2  # rad, a joint's start is at most this far from straight
    start_height: float = 0.1  # m, of the torso above the ground
    target_low: tuple[float, float, float] = (-0.4, -0.4, 0.1)  # m, corners of the box in which targets lie
    target_high: tuple[float, float, float] = (0.4, 0.4, 0.3)
    contacts: bool = True  # whether contacts are looked for: they push nothing either way
    ballast_radius: float | None = None  # m, of a ball that gives the torso its mass; None: the model's box
    upright_first: bool = False  # whether `upright` stands before the joint angles in an observation


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


class FishSwim:
    """Start: any orientation, joints nearly straight, all at rest; the target uniform in a box.

    Observation (24): angles of seven joints, uprightness (cosine between the torso's z axis and the world's), from
    mouth to target along the mouth's axes, velocities (the torso's in the world, its rotation in its own axes).
    Reward: (7 · near + (1 + upright) / 2) / 8, near = 1 where mouth and target touch, and 0.1 at three times that
    distance.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ("geom_pos",)

    @staticmethod
    def build(constants: FishConstants) -> mujoco.MjModel:
        fish = specification("fish", constants)
        if not constants.contacts:
            fish.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        if constants.ballast_radius is not None:
            ballast = fish.geom("torso_massive")
            ballast.type = mujoco.mjtGeom.mjGEOM_SPHERE
            ballast.size = (constants.ballast_radius, 0, 0)
        return fish.compile()

    def __init__(self, simulation: Simulation, constants: FishConstants) -> None:
        model = simulation.model
        self.constants = constants
        self.qpos = simulation.bind("qpos")  # (count, 14): place, quaternion, joints
        self.qvel = simulation.bind("qvel")
        self.target = simulation.expand("geom_pos")[:, model.geom("target").id]  # (count, 3)
        mouth = model.geom("mouth")
        self.mouth_place = torch.tensor(mouth.pos)  # (3,) m, in the torso's axes
        self.mouth_axes = matrix(torch.tensor(mouth.quat))  # (3, 3)
        self.touching = float(mouth.size[0] + model.geom("target").size[0])
        largest = torch.full((model.nq - 7,), constants.start_angle, dtype=torch.float64)
        box = torch.tensor((constants.target_low, constants.target_high), dtype=torch.float64)
        self.low, self.high = torch.cat((-largest, box[0])), torch.cat((largest, box[1]))

    @property
    def observation_parts(self) -> dict[str, int]:
        """The two profiles differ in the order."""
        parts = {"joint_angles": 7, "upright": 1, "target": 3, "velocity": 13}
        return {"upright": 1} | parts if self.constants.upright_first else parts

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        quaternion = torch.randn(len(rows), 4, dtype=torch.float64, generator=random)
        joints_and_target = uniform(self.low, self.high, len(rows), random)
        self.qpos[rows, 2] = self.constants.start_height
        self.qpos[rows, 3:7] = quaternion / quaternion.norm(dim=1, keepdim=True)
        self.qpos[rows, 7:] = joints_and_target[:, :-3]
        self.target[rows] = joints_and_target[:, -3:]

    def observation(self) -> Tensor:
        torso, angles = self.torso_axes(), self.qpos[:, 7:]
        upright = torso[:, 2, 2:]
        posture = (upright, angles) if self.constants.upright_first else (angles, upright)
        return torch.cat((*posture, self.to_target(torso), self.qvel), dim=1)

    def reward(self) -> Tensor:
        torso = self.torso_axes()
        near = tolerance(self.to_target(torso).norm(dim=1), (0, self.touching), margin=2 * self.touching)
        return (7 * near + (1 + torso[:, 2, 2]) / 2) / 8

    def torso_axes(self) -> Tensor:
        """(count, 3, 3): the torso's axes as columns."""
        return matrix(self.qpos[:, 3:7])

    def to_target(self, torso: Tensor) -> Tensor:
        """(count, 3) metres from mouth to target along the axes of the mouth, a child of the torso."""
        from_torso = torch.einsum("nw, nwt -> nt", self.target - self.qpos[:, :3], torso)
        return (from_torso - self.mouth_place) @ self.mouth_axes


def matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (…, 3, 3) of unit quaternions w, x, y, z (…, 4)."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
