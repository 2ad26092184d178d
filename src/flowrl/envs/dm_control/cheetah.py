"""CheetahRun: a planar runner with six actuated joints that should reach 10 m/s (dm_control `cheetah`, `run`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.dm_control.reward import linear, tolerance
from flowrl.envs.dm_control.task import DMControlConstants, DMControlTask
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import uniform


@dataclass(frozen=True, kw_only=True)
class CheetahConstants(DMControlConstants):
    """CheetahRun's numbers."""

    speed: float = 10.0  # m/s, from which the reward is full
    mass: float = 14.0  # kg in all
    # physics steps before an episode: from the default pose, and then from the drawn one
    steps_before_pose: int
    steps_after_pose: int


PROFILES = {
    # dm_control settles the drawn pose for 200 steps, of which the first takes the forces of the default pose.
    "dmc": CheetahConstants(timestep=0.01, substeps=1, steps_before_pose=1, steps_after_pose=199),
    "playground": CheetahConstants(
        timestep=0.01,
        substeps=1,
        steps_before_pose=0,
        steps_after_pose=200,
        implicit_damping=False,
        iterations=4,
        ls_iterations=8,
    ),
}

ROOT_JOINTS = 3  # along x, along z, pitch: the torso's
TORSO = 1


class Cheetah(DMControlTask[CheetahConstants]):
    """Run forward at up to 10 m/s."""

    model = "cheetah"
    facts: ClassVar = {
        "start": "every joint of the legs uniform within its range, then two seconds of falling and settling",
        "observation": "heights, pitch and joint angles (8: every position but x), all velocities (9)",
        "reward": "the horizontal speed of the centre of mass over 10 m/s, at most 1",
    }

    settles = True

    @classmethod
    def build(cls, constants: CheetahConstants) -> mujoco.MjModel:
        model = super().build(constants)
        mujoco.mj_setTotalmass(model, constants.mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def __init__(self, simulation: Simulation, constants: CheetahConstants) -> None:
        super().__init__(simulation, constants)
        model, qpos, qvel = simulation.model, self.qpos, self.qvel
        self.legs = qpos[:, ROOT_JOINTS:]
        self.hinges, self.hinge_rates, self.root_speed = qpos[:, 2:], qvel[:, 2:], qvel[:, 0]
        self.low, self.high = simulation.constant(model.jnt_range[ROOT_JOINTS:]).T
        self.joint_to_body = simulation.constant(joint_to_body(model))
        x, z = simulation.constant(levers(model)).unbind(1)
        self.length, self.phase = torch.hypot(x, z), torch.atan2(x, z)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        if self.constants.steps_before_pose:
            self.simulation.step(self.constants.steps_before_pose, rows)
        self.legs[rows] += uniform(self.low, self.high, len(rows), random)
        self.simulation.step(self.constants.steps_after_pose, rows)

    def parts(self) -> dict[str, Tensor]:
        return {"position": self.qpos[:, 1:], "velocity": self.qvel}  # all but the position along x

    def reward(self) -> Tensor:
        speed = self.constants.speed
        return tolerance(self.speed(), (speed, torch.inf), margin=speed, sigmoid=linear, value_at_margin=0)

    def speed(self) -> Tensor:
        """Compute the horizontal speed (count,) of the centre of mass, in m/s.

        Body k, at pitch θ_k, contributes to the centre of mass a lever (x_k, z_k) that turns with it. Its end
        is h_k = z_k cos θ_k - x_k sin θ_k above its root, so ẋ = ẋ_root + Σ_k θ̇_k h_k. It is what the
        model's sensor `torso_subtreelinvel` measures, from the state alone.
        """
        pitch, rate = self.sum_to_bodies(self.hinges), self.sum_to_bodies(self.hinge_rates)
        height = self.length * (pitch + self.phase).cos()  # (x, z) = r (sin φ, cos φ), so h = r cos(θ + φ)
        return self.root_speed + (rate * height).sum(1)

    def sum_to_bodies(self, joints: Tensor) -> Tensor:
        """Sum joint angles, or rates, (count, 7) along the chain to each body."""
        # The copy: the last bit of a matrix product may depend on how its operands are aligned in memory.
        return joints.contiguous() @ self.joint_to_body


def joint_to_body(model: mujoco.MjModel) -> Tensor:
    """Return (7, 7): [joint, body] is 1 where the body turns with the joint; the torso's pitch comes first."""
    bodies = torch.zeros(model.nbody, model.nbody, dtype=torch.float64)
    for body in range(TORSO, model.nbody):  # every body has one hinge, and parents come before their children
        bodies[:, body] = bodies[:, model.body_parentid[body]]
        bodies[body, body] = 1
    return bodies[TORSO:, TORSO:]


def levers(model: mujoco.MjModel) -> NDArray[np.float64]:
    """Return the lever (7, 2) of every body in x and z, in metres.

    A lever is the body's own centre of mass, weighted by its mass, and the positions of its children, weighted by
    the masses that they carry, over the total mass.
    """
    moment = model.body_mass[:, None] * model.body_ipos
    for child in range(TORSO + 1, model.nbody):
        moment[model.body_parentid[child]] += model.body_subtreemass[child] * model.body_pos[child]
    levers: NDArray[np.float64] = moment[TORSO:, ::2] / model.body_subtreemass[TORSO]
    return levers
