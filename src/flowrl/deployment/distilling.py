"""A copy of a velocity network that does in one or two Euler steps what the original does in many.

The copy is trained on observations with fresh noise to end where the target's flow ends: the progressive distillation
of Salimans & Ho 2022 (arXiv 2202.00512) in a single stage, which for networks of this size takes seconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowrl.contracts.protocols import Sampler
from flowrl.deployment.endpoints import Integrate
from flowrl.flow import last_step
from flowrl.networks.velocity import FlowNetwork

ROWS = 512  # of an iteration
RATE = 2e-3  # of Adam, falling linearly to 0


@dataclass(frozen=True)
class DistilEffort:
    """How long a network is distilled: a number of iterations, or seconds where that is None."""

    seconds: float = 20.0
    iterations: int | None = None


def distil(
    field: FlowNetwork,
    obs: Tensor,
    target: Integrate,
    sampler: Sampler,
    *,
    seed: int,
    effort: DistilEffort,
    progress: Callable[[float], None] = lambda share: None,
) -> FlowNetwork:
    """Return a copy of `field` whose actions with `sampler` are those of `target` with the original.

    Each iteration draws rows of `obs` (rows, observation) and noise, and minimises the mean squared distance of the end
    points with Adam. With a number of iterations the same `seed` gives the same network; with seconds, the speed of the
    machine decides how many there are. `progress` is called with the share that is done.
    """
    student = copy.deepcopy(field).requires_grad_(True)
    carrying = last_step.for_field(sampler, student)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    random = torch.Generator().manual_seed(seed)
    begun, done, share = time.monotonic(), 0, 0.0
    while share < 1:
        rows = obs[torch.randint(len(obs), (ROWS,), generator=random)]
        noise = torch.randn(ROWS, field.action_size, generator=random)
        wanted = target(rows, noise)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - share)
        loss = (carrying(student.bind(rows), noise, 0.0, 1.0) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
        spent = (time.monotonic() - begun) / effort.seconds if effort.iterations is None else done / effort.iterations
        share = min(1.0, spent)
        progress(share)
    return student.requires_grad_(False)
