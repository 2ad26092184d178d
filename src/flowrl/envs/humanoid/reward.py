"""PHC's reward for imitation (Luo et al. 2023, arXiv 2305.06456), of all bodies whatever the policy observes.

PHC's effort costs ten times as much, without a limit, and nothing in the first three steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowrl.envs.humanoid.kinematics import AXES, BodyStates

EFFORT_PRICE = 5e-5  # per W
MOST_EFFORT_COST = 0.1


def imitation(own: BodyStates, reference: BodyStates) -> Tensor:
    """Compute (count,) in [0, 1]: 0.5 exp(-100 e_pos) + 0.3 exp(-10 e_rot) + 0.1 exp(-0.1 e_vel) + 0.1 exp(-0.1 e_ang).

    The errors are means over the bodies: of the squared differences in position (m²), velocity (m²/s²) and
    angular velocity (rad²/s²), over x, y and z, too, and of the squared angle (rad²).
    """
    difference = own.vectors[:, : AXES.start] - reference.vectors[:, : AXES.start]
    e_pos, e_vel, e_ang = difference.square().mean((2, 3)).unbind(1)
    e_rot = squared_angle(own.rotation, reference.rotation).mean(1)
    return (
        0.5 * (-100 * e_pos).exp() + 0.3 * (-10 * e_rot).exp() + 0.1 * (-0.1 * e_vel).exp() + 0.1 * (-0.1 * e_ang).exp()
    )


def squared_angle(first: Tensor, second: Tensor) -> Tensor:
    """Compute the squared angle between two unit quaternions (…, 4), in rad²; exactly 0 where they are equal.

    On the sphere of quaternions, where q and -q are one rotation, their distance is half that angle: the chord d
    between the nearer two spans θ/2 = 2 asin(d/2).
    """
    chord = torch.minimum((first - second).square().sum(-1), (first + second).square().sum(-1)).sqrt()
    return (4 * (chord / 2).asin()).square()


def effort(torque: Tensor, rate: Tensor) -> Tensor:
    """Compute the cost (count,) of the motors' power from torques in N m and joint velocities in rad/s, (count, 28)."""
    power = (torque * rate).abs().sum(1)
    return (EFFORT_PRICE * power).clamp(max=MOST_EFFORT_COST)
