"""ReacherEasy and ReacherHard: bring the tip of a two-link arm to a target (dm_control `reacher`, `easy`, `hard`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import tolerance
from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import uniform


@dataclass(frozen=True, kw_only=True)
class ReacherConstants(DMControlConstants):
    """Reacher's numbers."""

    target_radius: float  # m
    target_near: float = 0.05  # m, the target's centre is at least this far from the shoulder
    target_far: float = 0.2  # m, and at most this far


EASY = {
    "dmc": ReacherConstants(timestep=0.02, substeps=1, target_radius=0.05),
    "playground": ReacherConstants(
        timestep=0.005, substeps=4, target_radius=0.05, implicit_damping=False, iterations=1, ls_iterations=6
    ),
}
HARD = {profile: replace(constants, target_radius=0.015) for profile, constants in EASY.items()}


class Reacher(DMControlTask[ReacherConstants]):
    """Bring the tip of a two-link arm to a target."""

    model = "reacher"
    facts: ClassVar = {
        "start": "both joints anywhere in their range, at rest; the target uniform in direction and in distance",
        "observation": "joint angles, from the tip to the target in x and y, joint velocities",
        "reward": "1 where the tip, a ball, touches the target, else 0",
    }
    varied = ("geom_pos",)

    @classmethod
    def build(cls, constants: ReacherConstants) -> mujoco.MjModel:
        model = super().build(constants)
        model.geom("target").size[0] = constants.target_radius
        return model

    def __init__(self, simulation: Simulation, constants: ReacherConstants) -> None:
        super().__init__(simulation, constants)
        model = simulation.model
        self.target = simulation.expand("geom_pos")[:, model.geom("target").id, :2]  # (count, 2)
        wrist_low, wrist_high = model.joint("wrist").range
        self.low = simulation.constant([-math.pi, wrist_low, 0, constants.target_near])
        self.high = simulation.constant([math.pi, wrist_high, 2 * math.pi, constants.target_far])
        self.links = simulation.constant([model.body(end).pos[0] for end in ("hand", "finger")])  # (2,) m, lengths
        self.contact_distance = float(model.geom("target").size[0] + model.geom("finger").size[0])

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        shoulder, wrist, direction, distance = uniform(self.low, self.high, len(rows), random).unbind(1)
        self.qpos[rows] = torch.stack((shoulder, wrist), dim=1)
        self.target[rows] = torch.stack((distance * direction.sin(), distance * direction.cos()), dim=1)

    def parts(self) -> dict[str, Tensor]:
        return {"position": self.qpos, "to_target": self.to_target(), "velocity": self.qvel}

    def reward(self) -> Tensor:
        return tolerance(torch.linalg.vector_norm(self.to_target(), dim=1), (0, self.contact_distance))

    def to_target(self) -> Tensor:
        """Compute the vector from the tip to the target's centre (count, 2), in metres."""
        angle = self.qpos.cumsum(1)  # of the two links against x
        links = self.links * torch.stack((angle.cos(), angle.sin()), dim=1)  # (count, x and y, link)
        return self.target - links.sum(2)
