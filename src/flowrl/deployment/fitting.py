"""A sampler with few evaluations, fitted to the flow of one policy.

The method is x_{i+1} = x_0 + Σ_{j<=i} w_ij v(x_j, t_j): its times t and its weights w are found by descending the
distance between its end points and those of the target, through the velocity network, whose weights stay as they are.
Such solvers of one flow are due to Shaul et al. 2023 (Bespoke Solvers, arXiv 2310.19075) and 2024 (Non-Stationary
Solvers, arXiv 2403.01329), whose factors on x, which bring nothing here, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flowrl.contracts.protocols import VelocityField
from flowrl.deployment.endpoints import Examples

ITERATIONS = 600
ROWS = 512  # of an iteration
TIMES_RATE, WEIGHTS_RATE = 2e-2, 1e-2  # of Adam, falling linearly to 0


@dataclass(frozen=True)
class FittedNumbers:
    """The times and the weights of a fitted method, as plain numbers."""

    times: tuple[float, ...]  # (nfe,) rising from 0
    weights: tuple[tuple[float, ...], ...]  # rows of 1, 2, ..., nfe numbers; the last has the sum 1


class _Unknowns:
    """The numbers that are fitted: they begin as Euler's method with equal steps."""

    def __init__(self, nfe: int, latest: float) -> None:
        self.nfe = nfe
        self.latest = latest
        self.logits = torch.zeros(nfe, requires_grad=True)  # of the sizes of the steps
        self.triangle = torch.full((nfe, nfe), 1 / nfe, requires_grad=True)

    def times(self) -> Tensor:
        """Return the times (nfe,): the steps before them, added up; none is beyond the field's latest time."""
        steps = self.logits.softmax(dim=0)
        return functional.pad(steps.cumsum(dim=0)[:-1], (1, 0)).clamp(max=self.latest)

    def weights(self) -> Tensor:
        """Return the lower triangle (nfe, nfe), its last row moved to the sum 1: exact on a constant velocity."""
        rows = self.triangle.tril()
        last = rows[-1] + (1 - rows[-1].sum()) / self.nfe
        return torch.cat([rows[:-1], last[None]])

    def carry(self, field: VelocityField, obs: Tensor, noise: Tensor) -> Tensor:
        """Carry the noise (rows, action) to actions."""
        velocity, times, weights = field.bind(obs), self.times(), self.weights()
        velocities: list[Tensor] = []
        x = noise
        for node in range(self.nfe):
            velocities.append(velocity(x, times[node]))
            x = noise + torch.einsum("j,jba->ba", weights[node, : node + 1], torch.stack(velocities))
        return x

    def numbers(self) -> FittedNumbers:
        """Return the numbers in float64, where the last row's sum is 1 to the last digit."""
        with torch.no_grad():
            times, rows = self.times().tolist(), self.triangle.tril().double()
            rows[-1] += (1 - rows[-1].sum()) / self.nfe
        weights = tuple(tuple(row[: place + 1]) for place, row in enumerate(rows.tolist()))
        return FittedNumbers(tuple(times), weights)


def fit(
    field: VelocityField,
    found: Examples,
    nfe: int,
    *,
    seed: int,
    iterations: int = ITERATIONS,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> FittedNumbers:
    """Fit a method with `nfe` evaluations per action to the examples; the same `seed` gives the same numbers.

    Every iteration takes `ROWS` of the examples and minimises the mean squared distance of the end points, relative to
    the actions' spread, with Adam. `progress` is called with the iterations done and their number.
    """
    unknowns = _Unknowns(nfe, getattr(field, "latest_time", 1.0))
    groups = [{"params": [unknowns.logits], "lr": TIMES_RATE}, {"params": [unknowns.triangle], "lr": WEIGHTS_RATE}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / iterations)
    random = torch.Generator().manual_seed(seed)
    for iteration in range(iterations):
        rows = torch.randint(len(found.obs), (ROWS,), generator=random)
        actions = unknowns.carry(field, found.obs[rows], found.noise[rows])
        loss = (actions - found.actions[rows]).square().mean() / found.spread**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(iteration + 1, iterations)
    return unknowns.numbers()
