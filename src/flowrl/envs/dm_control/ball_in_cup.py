"""BallInCup: swing a ball on a string into a cup (dm_control `ball_in_cup`, `catch`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import uniform


@dataclass(frozen=True, kw_only=True)
class BallInCupConstants(DMControlConstants):
    """BallInCup's numbers."""

    start_x: tuple[float, float] = (-0.2, 0.2)  # m, the ball's start, from where it hangs
    start_z: tuple[float, float] = (0.2, 0.5)  # m


PROFILES = {
    "dmc": BallInCupConstants(timestep=0.002, substeps=10),
    "playground": BallInCupConstants(
        timestep=0.002,
        substeps=10,
        start_x=(0.0, 0.0),  # the ball always hangs still
        start_z=(0.0, 0.0),
        implicit_damping=False,
        iterations=1,
        ls_iterations=4,
    ),
}


class BallInCup(DMControlTask[BallInCupConstants]):
    """Swing a ball on a string into a cup."""

    model = "ball_in_cup"
    facts: ClassVar = {
        "start": "the ball uniform in a box around the cup, but not in touch with it; all at rest",
        "observation": "positions of cup and ball in x and z, their velocities",
        "reward": "1 where the ball is completely within the target box in the cup, else 0",
    }

    def __init__(self, simulation: Simulation, constants: BallInCupConstants) -> None:
        super().__init__(simulation, constants)
        model = simulation.model
        self.low, self.high = simulation.constant((constants.start_x, constants.start_z)).T
        x_and_z = [0, 2]
        self.cup_origin = simulation.constant(model.body("cup").pos[x_and_z])
        self.ball_origin = simulation.constant(model.body("ball").pos[x_and_z])
        self.target_in_cup = simulation.constant(model.site("target").pos[x_and_z])
        margin = model.site("target").size[x_and_z] - model.geom("ball").size[0]
        self.margin = simulation.constant(margin)  # (2,) m, for the ball's centre around the target's

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        while len(rows):
            self.qpos[rows, 2:] = uniform(self.low, self.high, len(rows), random)
            rows = rows[self.simulation.contacts(rows) > 0]

    def reward(self) -> Tensor:
        target = self.cup_origin + self.qpos[:, :2] + self.target_in_cup
        ball = self.ball_origin + self.qpos[:, 2:]
        return ((target - ball).abs() < self.margin).all(1).to(self.qpos.dtype)
