"""The observation of HumanoidTrack, and the part of it that each goal shows the policy (PHC, arXiv 2305.06456).

All is relative to the root, in an upright frame with the root's heading. A rotation is given by its x axis and its z
axis: 6 numbers. The goal is the reference in the next frame, for every body.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.humanoid.kinematics import POSITION, BodyStates, heading, rotate_back
from flowrl.envs.humanoid.model import BODIES, HANDS, JOINTS, ROOT

_BODIES, _JOINTS = len(BODIES), len(JOINTS)
PARTS = {
    "height": 1,  # of the root over the floor, m
    "places": 3 * (_BODIES - 1),  # of all other bodies from the root, m
    "rotations": 6 * _BODIES,
    "velocities": 3 * _BODIES,  # m/s
    "spins": 3 * _BODIES,  # rad/s
    "goal_place_differences": 3 * _BODIES,  # reference minus own, m
    "goal_rotation_differences": 6 * _BODIES,  # the rotation from the own to the reference's
    "goal_velocity_differences": 3 * _BODIES,  # reference minus own, m/s
    "goal_spin_differences": 3 * _BODIES,  # rad/s
    "goal_places": 3 * _BODIES,  # the reference's bodies from the own root, m
    "goal_rotations": 6 * _BODIES,
    "joint_angles": _JOINTS,  # rad
    "joint_velocities": _JOINTS,  # rad/s
    "goal_joint_angles": _JOINTS,  # rad
}
"""Name and size of the parts of an observation, in order; bodies and joints in the order of `BODIES` and `JOINTS`."""

_ENDS = list(accumulate(PARTS.values()))
SIZE = _ENDS[-1]
WHERE = {name: slice(end - size, end) for (name, size), end in zip(PARTS.items(), _ENDS, strict=True)}
"""Each part's place in an observation."""

Goal = Literal["full", "root_hands", "root"]
FOLLOWED: dict[Goal, tuple[int, ...]] = {"full": tuple(range(_BODIES)), "root_hands": (ROOT, *HANDS), "root": (ROOT,)}
"""The bodies whose reference positions the policy observes; with `full` it observes everything."""


def visible(goal: Goal) -> NDArray[np.bool_]:
    """Return the mask (SIZE,) of the entries that the policy observes: all of its own body, and a part of the goal."""
    observed = np.ones(SIZE, dtype=np.bool_)
    if goal == "full":
        return observed
    for name, where in WHERE.items():
        if name.startswith("goal"):
            observed[where] = False
    for name in ("goal_place_differences", "goal_places"):
        observed[WHERE[name]].reshape(_BODIES, 3)[list(FOLLOWED[goal])] = True
    return observed


def observation(own: BodyStates, goal: BodyStates, angles: Tensor, rates: Tensor, goal_angles: Tensor) -> Tensor:
    """Compute a new tensor (count, SIZE); joint `angles`, `rates` and `goal_angles` are (count, 28)."""
    turn, root = heading(own), own.position[:, ROOT]
    ours, theirs = from_root(own, root, turn), from_root(goal, root, turn)
    difference = BodyStates(theirs.vectors - ours.vectors, goal.rotation)  # its axes are unused
    parts = (
        root[:, 2:],
        ours.position[:, 1:],
        six_numbers(ours.axes[:, 0], ours.axes[:, 2]),
        ours.velocity,
        ours.angular_velocity,
        difference.position,
        six_numbers(*rotation_between(ours.axes, theirs.axes)),
        difference.velocity,
        difference.angular_velocity,
        theirs.position,
        six_numbers(theirs.axes[:, 0], theirs.axes[:, 2]),
        angles,
        rates,
        goal_angles,
    )
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def from_root(bodies: BodyStates, root: Tensor, turn: Tensor) -> BodyStates:
    """Express the vectors relative to the position `root` (count, 3) and heading `turn` (count, 2), not `rotation`."""
    vectors = rotate_back(bodies.vectors, turn)
    vectors[:, POSITION] -= rotate_back(root, turn)[:, None]
    return BodyStates(vectors, bodies.rotation)


def rotation_between(own: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the axes x and z (count, 15, 3) of the rotation from the axes `own` (count, 3, 15, 3) to `goal`.

    It is R = Σ_k goal_k own_kᵀ over the three axes k.
    """
    return (own[..., 0, None] * goal).sum(1), (own[..., 2, None] * goal).sum(1)


def six_numbers(x: Tensor, z: Tensor) -> Tensor:
    """Stack the axes x and z (count, 15, 3) of rotations to (count, 15, 2, 3)."""
    return torch.stack((x, z), dim=2)
