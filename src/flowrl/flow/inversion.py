"""The likelihood of an action under the map of a one-step sampler, by inverting the map step by step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowrl.contracts.protocols import Sampler, Velocity
from flowrl.flow.density import value_and_jacobian

TOLERANCE = 1e-9  # of the largest residual of a step, in the units of the action
MOST_ITERATIONS = 60


def map_density(
    velocity: Velocity, one_step: Sampler, actions: Tensor, steps: int, end: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute log p(action) of the map from noise N(0, 1) to actions that `steps` steps of a sampler make.

    A step is a map x → F(x); its inverse is found by Newton's method with halved steps, and
    log p(a) = log N(z) - Σ log |det ∂F/∂x| over the steps.

    Args:
        velocity: A velocity with its observations bound, in float64.
        one_step: The sampler with a single step, which carries points from one time to another.
        actions: Actions (batch, action) in float64, before they are squashed.
        steps: The number of equal steps from t = 0 to `end`.
        end: The time at which the map ends.

    Returns:
        log p (batch,) in nats, the noise z (batch, action), and whether the inversion succeeded (batch,) bool.
    """
    x, total = actions, torch.zeros_like(actions[:, 0])
    good = torch.ones(len(actions), dtype=torch.bool)
    for number in reversed(range(steps)):

        def step(at: Tensor, start: float = end * number / steps, stop: float = end * (number + 1) / steps) -> Tensor:
            return one_step(velocity, at, start, stop)

        x, log_det, found = _inverse(step, x)
        total = total - log_det
        good &= found
    gaussian = -0.5 * x.square().sum(dim=-1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)
    return gaussian + total, x, good


def _inverse(step: Callable[[Tensor], Tensor], target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Solve step(x) = target; returns x, log |det ∂step/∂x| there, and whether it was solved, by rows."""
    x = target.clone()
    value, jacobian = value_and_jacobian(step, x)
    for _ in range(MOST_ITERATIONS):
        residual = value - target
        size = residual.abs().amax(dim=-1)
        known = size.isfinite() & jacobian.isfinite().all(dim=-1).all(dim=-1)
        if not bool((known & (size >= TOLERANCE)).any()):
            break
        # where something is not finite a row stays as it is, and is reported
        unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        solvable = torch.where(known[:, None, None], jacobian, unit)
        move = torch.linalg.lstsq(solvable, residual.nan_to_num(0, 0, 0).unsqueeze(-1)).solution.squeeze(-1)
        move = torch.where(known.unsqueeze(-1), move, 0.0)
        x, value, jacobian = _halved(step, x, move, size, target)
    log_det = torch.linalg.slogdet(jacobian.nan_to_num()).logabsdet
    solved = ((value - target).abs().amax(dim=-1) < TOLERANCE) & log_det.isfinite()
    return x, log_det, solved


def _halved(
    step: Callable[[Tensor], Tensor], x: Tensor, move: Tensor, size: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Move the rows by `move`, or by a half, a quarter, … of it, at most eight times, until no residual has grown."""
    factor = torch.ones_like(size)
    for _ in range(8):
        trial = x - factor.unsqueeze(-1) * move
        value = step(trial)
        worse = ~((value - target).abs().amax(dim=-1) <= size)
        if not worse.any():
            break
        factor = torch.where(worse, factor / 2, factor)
    trial = x - factor.unsqueeze(-1) * move
    value, jacobian = value_and_jacobian(step, trial)
    return trial, value, jacobian
