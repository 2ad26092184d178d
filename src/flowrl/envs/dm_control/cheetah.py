"""CheetahRun: a planar runner with six actuated joints that should reach 10 m/s (dm_control `cheetah`, `run`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.dm_control.reward import linear, tolerance
from flowrl.envs.dm_control.task import DMControlConstants, compiled, uniform
from flowrl.envs.simulation.mujoco_batch import Simulation


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


class Cheetah:
    """Start: every joint of the legs uniform within its range, then two seconds of falling and settling.

    Observation (17): heights, pitch and joint angles (8: every position but x), all velocities (9).
    Reward: the horizontal speed of the centre of mass over 10 m/s, at most 1.
    """

    observation_parts: ClassVar = {"position": 8, "velocity": 9}
    derived: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def build(constants: CheetahConstants) -> mujoco.MjModel:
        model = compiled("cheetah", constants)
        mujoco.mj_setTotalmass(model, constants.mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def __init__(self, simulation: Simulation, constants: CheetahConstants) -> None:
        model = simulation.model
        self.simulation, self.constants = simulation, constants
        qpos, qvel = simulation.bind("qpos"), simulation.bind("qvel")
        self.pose, self.velocity = qpos[:, 1:], qvel  # what is seen: all but where along x
        self.legs = qpos[:, ROOT_JOINTS:]
        self.hinges, self.hinge_rates, self.root_speed = qpos[:, 2:], qvel[:, 2:], qvel[:, 0]
        self.low, self.high = torch.tensor(model.jnt_range[ROOT_JOINTS:]).T
        self.turned_by = turned_by(model)
        x, z = levers(model).unbind(1)
        self.length, self.phase = torch.hypot(x, z), torch.atan2(x, z)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        if self.constants.steps_before_pose:
            self.simulation.step(self.constants.steps_before_pose, rows)
        self.legs[rows] += uniform(self.low, self.high, len(rows), random)
        self.simulation.step(self.constants.steps_after_pose, rows)

    def observation(self) -> Tensor:
        return torch.cat((self.pose, self.velocity), dim=1)

    def reward(self) -> Tensor:
        speed = self.constants.speed
        return tolerance(self.speed(), (speed, torch.inf), margin=speed, sigmoid=linear, value_at_margin=0)

    def speed(self) -> Tensor:
        """Horizontal speed (count,) of the centre of mass, in m/s.

        Body k, at pitch θ_k, shares in the centre of mass with a lever (x_k, z_k) that turns with it. Its end
        stands h_k = z_k cos θ_k - x_k sin θ_k above its root, so ẋ = ẋ_root + Σ_k θ̇_k h_k. It is what the
        model's sensor `torso_subtreelinvel` measures, from the state alone.
        """
        pitch, rate = self.along_the_limbs(self.hinges), self.along_the_limbs(self.hinge_rates)
        height = self.length * (pitch + self.phase).cos()  # (x, z) = r (sin φ, cos φ), so h = r cos(θ + φ)
        return self.root_speed + (rate * height).sum(1)

    def along_the_limbs(self, joints: Tensor) -> Tensor:
        """Angles, or rates, (count, 7) of the joints summed up to each body."""
        # The copy: the last bit of a matrix product may depend on how its operands are aligned in memory.
        return joints.contiguous() @ self.turned_by


def turned_by(model: mujoco.MjModel) -> Tensor:
    """[joint, body] = 1 where the body turns with the joint; the torso's pitch comes first, (7, 7)."""
    bodies = torch.zeros(model.nbody, model.nbody, dtype=torch.float64)
    for body in range(TORSO, model.nbody):  # every body has one hinge, and parents come before their children
        bodies[:, body] = bodies[:, model.body_parentid[body]]
        bodies[body, body] = 1
    return bodies[TORSO:, TORSO:]


def levers(model: mujoco.MjModel) -> Tensor:
    """The lever (7, 2) of every body in x and z, in metres.

    A lever is the body's own centre of mass, weighted by its mass, and the places of its children, weighted by
    the masses that hang on them, over the mass of all.
    """
    moment = model.body_mass[:, None] * model.body_ipos
    for child in range(TORSO + 1, model.nbody):
        moment[model.body_parentid[child]] += model.body_subtreemass[child] * model.body_pos[child]
    return torch.tensor(moment[TORSO:, ::2] / model.body_subtreemass[TORSO])
