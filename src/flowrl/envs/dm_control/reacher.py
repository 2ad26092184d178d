"""ReacherEasy and ReacherHard: bring the tip of a two-link arm to a target (dm_control `reacher`, `easy`, `hard`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import tolerance
from flowrl.envs.dm_control.task import DMControlConstants, compiled, uniform
from flowrl.envs.simulation.mujoco_batch import Simulation


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


class Reacher:
    """Start: both joints anywhere in their range, at rest; the target uniform in direction and in distance.

    Observation (6): joint angles, from the tip to the target in x and y, joint velocities.
    Reward: 1 where the tip, a ball, touches the target, else 0.
    """

    observation_parts: ClassVar = {"position": 2, "to_target": 2, "velocity": 2}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ("geom_pos",)

    @staticmethod
    def build(constants: ReacherConstants) -> mujoco.MjModel:
        model = compiled("reacher", constants)
        model.geom("target").size[0] = constants.target_radius
        return model

    def __init__(self, simulation: Simulation, constants: ReacherConstants) -> None:
        model = simulation.model
        self.constants = constants
        self.qpos, self.qvel = simulation.bind("qpos"), simulation.bind("qvel")
        self.target = simulation.expand("geom_pos")[:, model.geom("target").id, :2]  # (count, 2)
        wrist_low, wrist_high = model.joint("wrist").range
        self.low = torch.tensor([-math.pi, wrist_low, 0, constants.target_near], dtype=torch.float64)
        self.high = torch.tensor(
            [math.pi, wrist_high, 2 * math.pi, constants.target_far], dtype=torch.float64
        )
        self.links = torch.tensor([model.body(end).pos[0] for end in ("hand", "finger")])  # (2,) m, lengths
        self.touching = float(model.geom("target").size[0] + model.geom("finger").size[0])

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        shoulder, wrist, direction, distance = uniform(self.low, self.high, len(rows), random).unbind(1)
        self.qpos[rows] = torch.stack((shoulder, wrist), dim=1)
        self.target[rows] = torch.stack((distance * direction.sin(), distance * direction.cos()), dim=1)

    def observation(self) -> Tensor:
        return torch.cat((self.qpos, self.to_target(), self.qvel), dim=1)

    def reward(self) -> Tensor:
        return tolerance(torch.linalg.vector_norm(self.to_target(), dim=1), (0, self.touching))

    def to_target(self) -> Tensor:
        """From the tip to the target's centre (count, 2), in metres."""
        angle = self.qpos.cumsum(1)  # of the two links against x
        links = self.links * torch.stack((angle.cos(), angle.sin()), dim=1)  # (count, x and y, link)
        return self.target - links.sum(2)
