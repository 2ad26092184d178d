"""Compute the humanoid's mass distribution in an upright pose with its arms in a given style."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mujoco

from flowrl.envs.humanoid.model import BODIES, MODEL, OUT, ROOT
from flowrl.envs.humanoid.motions.gaits import arm_styles

# The trunk is the chest with head and arms: the bodies between pelvis and legs, and its joint is the waist.
TRUNK = BODIES[BODIES.index("chest") : BODIES.index("right_thigh")]


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
    data = mujoco.MjData(MODEL)
    for side in OUT:
        first = MODEL.joint(f"{side}_upper_arm_x").qposadr[0]
        data.qpos[first : first + 4] = arm_styles.pose(style, side)
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_comPos(MODEL, data)
    pelvis, waist = MODEL.body(BODIES[ROOT]).id, MODEL.body(TRUNK[0]).id
    position, trunk = data.xpos[pelvis], data.subtree_com[waist]
    inertia = 0.0
    for body in (MODEL.body(name).id for name in TRUNK):
        axes = data.ximat[body].reshape(3, 3)  # of the body's inertia, in the world
        inertia += float(axes[0] ** 2 @ MODEL.body_inertia[body])
        inertia += float(MODEL.body_mass[body] * ((data.xipos[body] - trunk)[1:] ** 2).sum())
    return MassDistribution(
        total=float(MODEL.body_subtreemass[pelvis]),
        forward=float(data.subtree_com[pelvis][0] - position[0]),
        height=float(data.subtree_com[pelvis][2] - position[2]),
        trunk_mass=float(MODEL.body_subtreemass[waist]),
        trunk_height=float(trunk[2] - position[2]),
        trunk_lever=float(trunk[2] - data.xpos[waist][2]),
        trunk_inertia=inertia,
    )
