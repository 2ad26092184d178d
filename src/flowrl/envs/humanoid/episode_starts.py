"""Which clip an episode imitates, and from which frame on."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from flowrl.envs.humanoid.reference import Reference

Sampling = Literal["uniform", "failure"]
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "failure")
Start = tuple[Tensor, Tensor]  # clip and frame, each (rows,) int64


class Starts(Protocol):
    """How new episodes begin. What it counts while episodes run is in `counts`, and changes in place."""

    counts: Tensor

    def draw(self, rows: Tensor, random: torch.Generator) -> Start:
        """Clip and first frame of the new episodes in `rows` (rows,)."""
        ...

    def failed(self, clips: Tensor) -> None:
        """Take note of the clips (failures,) whose imitation has just failed."""
        ...

    def forget(self) -> None:
        """Be as new."""
        ...


class Drawn:
    """Reference state initialisation (Peng et al. 2018): a clip by its weight, and any of its frames but the last two,
    so that the episode has a step, and its end a next frame to tell of.

    `by_failure` draws clip c with probability p ∝ weight · F after PHC's soft PMCP (Luo et al. 2023), where F counts
    its failures, and one more. PHC counts in evaluations, which show every clip once. Here episodes count
    themselves, and a clip that is drawn more often has more to fail in: so each counts 1 / (clips · p) failures.
    """

    def __init__(self, reference: Reference, by_failure: bool) -> None:
        self.reference, self.by_failure = reference, by_failure
        self.counts = torch.ones(len(reference.names), dtype=torch.float64)  # F, (clips,)

    def probabilities(self) -> Tensor:
        """(clips,), of being drawn next."""
        share = self.reference.weights * self.counts
        return share / share.sum()

    def draw(self, rows: Tensor, random: torch.Generator) -> Start:
        clip = torch.multinomial(self.probabilities(), len(rows), replacement=True, generator=random)
        place = torch.rand(len(rows), dtype=torch.float64, generator=random)
        return clip, (place * (self.reference.lengths[clip] - 2).clamp(min=1)).long()

    def failed(self, clips: Tensor) -> None:
        if self.by_failure and len(clips):
            each = 1 / (len(self.counts) * self.probabilities()[clips])
            self.counts.index_add_(0, clips, each)

    def forget(self) -> None:
        self.counts.fill_(1)


class InTurn:
    """Every clip in turn: episode k of row i shows clip (k · rows + i) modulo the number of clips.

    So any first n episodes, taken row by row, cover the clips evenly, whichever of them end early. A clip begins at
    its first frame; one that is longer than an episode of `steps`, as those that loop are, at any that leaves a whole
    one. So episodes differ that are played without noise.
    """

    def __init__(self, reference: Reference, count: int, steps: int) -> None:
        self.clips = len(reference.names)
        self.latest = (reference.lengths - 2 - steps).clamp(min=0)  # (clips,) first frame of an episode
        self.counts = torch.zeros(count, dtype=torch.int64)  # episodes begun, (rows,)

    def draw(self, rows: Tensor, random: torch.Generator) -> Start:
        clip = (self.counts[rows] * len(self.counts) + rows) % self.clips
        self.counts[rows] += 1
        place = torch.rand(len(rows), dtype=torch.float64, generator=random)
        return clip, (place * (self.latest[clip] + 1)).long()

    def failed(self, clips: Tensor) -> None:
        pass

    def forget(self) -> None:
        self.counts.zero_()
