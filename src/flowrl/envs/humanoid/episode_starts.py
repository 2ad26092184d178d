"""The choice of the motion that an episode imitates, and of its first frame.

A rule's state is its `counts`, which it updates in place. Counts and draws are kept on the CPU in float64, so that a
seed gives the same starts in every simulation.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from flowrl.envs.humanoid.reference import Reference

Sampling = Literal["uniform", "failure"]
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "failure")
Start = tuple[Tensor, Tensor]  # motion and frame, each (rows,) int64


class RandomStarts:
    """Reference state initialisation (Peng et al. 2018, arXiv 1804.02717): a motion by its weight, and any of its
    frames but the last two, so that the episode has a step, and its last observation a next frame.

    `by_failure` draws motion c with probability p ∝ weight · F after PHC's soft PMCP (Luo et al. 2023, arXiv
    2305.06456), where F is one plus the number of its failures. PHC counts in evaluations, which show every motion
    once. Here training episodes are counted, and a motion that is drawn more often has more opportunities to fail:
    so each failure counts 1 / (motions · p).
    """

    def __init__(self, reference: Reference, by_failure: bool) -> None:
        self.weights, self.by_failure = reference.weights, by_failure
        self.lengths = reference.lengths.cpu()
        self.counts = torch.ones(len(reference.names), dtype=torch.float64)  # F, (motions,)

    def probabilities(self) -> Tensor:
        """Return the probability (motions,) of each motion to be drawn next."""
        share = self.weights * self.counts
        return share / share.sum()

    def draw(self, rows: Tensor, random: torch.Generator) -> Start:
        """Draw motion and first frame of the new episodes in `rows` (rows,)."""
        motion = torch.multinomial(self.probabilities(), len(rows), replacement=True, generator=random)
        fraction = torch.rand(len(rows), dtype=torch.float64, generator=random)
        return motion, (fraction * (self.lengths[motion] - 2).clamp(min=1)).long()

    def record_failures(self, motions: Tensor) -> None:
        """Count the motions (failures,) whose imitation has just failed."""
        if self.by_failure and len(motions):
            each = 1 / (len(self.counts) * self.probabilities()[motions])
            self.counts.index_add_(0, motions, each)

    def clear(self) -> None:
        """Reset the counts."""
        self.counts.fill_(1)


class RoundRobinStarts:
    """Every motion in turn: episode k of row i shows motion (k · rows + i) modulo the number of motions.

    So any first n episodes, taken row by row, cover the motions evenly, whichever of them end early. A motion begins
    at its first frame; one that is longer than an episode of `steps`, such as a loop, at any frame that leaves a
    complete one. So episodes without action noise differ from one another, too.
    """

    def __init__(self, reference: Reference, count: int, steps: int) -> None:
        self.motions = len(reference.names)
        # (motions,) last possible first frame of an episode
        self.latest = (reference.lengths.cpu() - 2 - steps).clamp(min=0)
        self.counts = torch.zeros(count, dtype=torch.int64)  # episodes begun, (rows,)

    def draw(self, rows: Tensor, random: torch.Generator) -> Start:
        """Return the next motion of each of `rows` (rows,), and draw the first frame."""
        motion = (self.counts[rows] * len(self.counts) + rows) % self.motions
        self.counts[rows] += 1
        fraction = torch.rand(len(rows), dtype=torch.float64, generator=random)
        return motion, (fraction * (self.latest[motion] + 1)).long()

    def record_failures(self, motions: Tensor) -> None:
        """Ignore the motions (failures,) whose imitation has just failed."""

    def clear(self) -> None:
        """Begin with the first motions again."""
        self.counts.zero_()
