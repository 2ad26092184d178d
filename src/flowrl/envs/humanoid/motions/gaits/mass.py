"""Compute the humanoid's mass distribution in an upright pose with its arms in a given style."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mujoco

from flowrl.envs.humanoid.model import BODIES, OUT, ROOT, build
from flowrl.envs.humanoid.motions.gaits import arm_styles

WAIST = "chest"  # the body above this joint, with head and arms, is the trunk


@dataclass(frozen=True)
class MassDistribution:
    """Masses and their positions in the upright pose."""

    total: float  # kg
    forward: float  # m, of the center of mass in front of the pelvis
    height: float  # m, of the center of mass above the pelvis
    trunk_mass: float  # kg, of chest, head and arms
    trunk_height: float  # m, of the trunk's center of mass above the pelvis
    trunk_lever: float  # m, of the trunk's center of mass above the waist
    trunk_inertia: float  # kg m², of the trunk about the forward axis through its center of mass


@cache
def mass_distribution(style: arm_styles.Style) -> MassDistribution:
    """Return the mass distribution with the arms in the mean pose of `style`."""
    model = build()
    data = mujoco.MjData(model)
    for side in OUT:
        first = model.joint(f"{side}_upper_arm_x").qposadr[0]
        data.qpos[first : first + 4] = arm_styles.pose(style, side)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    pelvis, waist = model.body(BODIES[ROOT]).id, model.body(WAIST).id
    position, trunk = data.xpos[pelvis], data.subtree_com[waist]
    inertia = 0.0
    for body in _descendants(model, waist):
        axes = data.ximat[body].reshape(3, 3)  # of the body's inertia, in the world
        inertia += float(axes[0] ** 2 @ model.body_inertia[body])
        inertia += float(model.body_mass[body] * ((data.xipos[body] - trunk)[1:] ** 2).sum())
    return MassDistribution(
        total=float(model.body_subtreemass[pelvis]),
        forward=float(data.subtree_com[pelvis][0] - position[0]),
        height=float(data.subtree_com[pelvis][2] - position[2]),
        trunk_mass=float(model.body_subtreemass[waist]),
        trunk_height=float(trunk[2] - position[2]),
        trunk_lever=float(trunk[2] - data.xpos[waist][2]),
        trunk_inertia=inertia,
    )


def _descendants(model: mujoco.MjModel, body: int) -> list[int]:
    """Return `body` and all its descendants; a parent's id is lower than its children's."""
    found = [body]
    for other in range(body + 1, model.nbody):
        if model.body_parentid[other] in found:
            found.append(other)
    return found
