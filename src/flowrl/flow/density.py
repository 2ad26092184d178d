"""The likelihood of an action under the continuous flow of a velocity field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowrl.contracts.protocols import Velocity, VelocityField


def log_density(field: VelocityField, obs: Tensor, actions: Tensor, steps: int) -> Tensor:
    """Compute log p(action | obs) of the flow that carries N(0, 1) along `field` from t = 0 to t = 1, with gradients.

    log p(x_1) = log N(x_0) - ∫₀¹ ∇·v(x_t, t) dt along the path that ends in the action (the instantaneous change of
    variables: Chen et al. 2018, arXiv 1806.07366, theorem 1), integrated from t = 1 back in `steps` steps of
    order two. The divergence is exact: a forward derivative for each number of the action.

    Args:
        field: A velocity field over observations.
        obs: Observations (batch, observation).
        actions: Actions (batch, action), before they are squashed.
        steps: Number of steps, each with two evaluations.

    Returns:
        (batch,) in nats.
    """
    with torch.enable_grad():
        velocity = field.bind(obs)
        x, total = actions, torch.zeros_like(actions[:, 0])
        size = 1.0 / steps
        for number in range(steps, 0, -1):
            t = number * size
            middle = x - size / 2 * velocity(x, t)
            moved, divergence = velocity_and_divergence(velocity, middle, t - size / 2)
            x = x - size * moved
            total = total + size * divergence
        gaussian = -0.5 * x.square().sum(dim=-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)
        return gaussian - total


def velocity_and_divergence(velocity: Velocity, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Compute v(x, t) (batch, action) and its divergence (batch,) at the points `x` (batch, action)."""
    moved, jacobian = velocity_and_jacobian(velocity, x, t)
    return moved, jacobian.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def velocity_and_jacobian(velocity: Velocity, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Compute v(x, t) (batch, action) and ∂v/∂x (batch, action, action), of row i its derivative by column j."""
    return value_and_jacobian(lambda at: velocity(at, t), x)


def value_and_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute f(x) (batch, action) and ∂f/∂x (batch, action, action) of a function whose rows do not depend on another.

    One forward derivative for each number of the action, of all rows at once.
    """

    def along(direction: Tensor) -> Any:
        return torch.func.jvp(function, (x,), (direction.expand_as(x),))

    directions = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    value, columns = torch.func.vmap(along, out_dims=(None, 0))(directions)  # type: ignore[arg-type]
    return value, columns.permute(1, 2, 0)
