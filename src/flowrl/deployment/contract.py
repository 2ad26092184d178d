"""The contract of an export: how near it has to be to the policy, and how that is measured.

The referee is the `Program` in float64. On ordinary observations and, separately, on extreme ones:

    max |export - referee|     <=  1e-6 + 4 · max |checkpoint - referee|
    max |export - checkpoint|  <=  1e-5 · A + min(2 · max |checkpoint - referee|, 1e-4 · A),  A = max(1, max |action|)

So an export may not lose more than the float32 network itself loses, and the policy may not lose much: between two
Gaussians of a mixture a few actions of a thousand are off by 1e-5 to 5e-5 in float32, as they go to either of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program

Numbers = NDArray[np.float32]
Actions = Callable[
    [Numbers, Numbers], Numbers
]  # observations (rows, observation), noise (rows, action) -> (rows, action)

ROWS = 1000
WILD = 20.0  # times the usual spread, every seventh row: there the normaliser's limit acts
EXTREMES = (1e6, -1e6, 0.0, -0.0)
SEED = 20_260


@dataclass(frozen=True)
class Deviation:
    """How far an export is from the referee and from the checkpoint, and what is allowed; on the worse rows."""

    name: str
    error: float  # max |export - referee|, ordinary rows
    distance: float  # max |export - checkpoint|, ordinary rows
    tolerance: float  # of `error`
    exact: bool  # on ordinary and on extreme rows


@dataclass(frozen=True)
class Verification:
    """The outcome of `verify`."""

    rows: int
    checkpoint_error: float  # max |checkpoint - referee|, ordinary rows
    largest_action: float
    comparisons: tuple[Deviation, ...]

    @property
    def exact(self) -> bool:
        """Whether every export keeps the contract."""
        return all(each.exact for each in self.comparisons)


@dataclass(frozen=True)
class Vectors:
    """Rows of one kind, with what the referee and the checkpoint make of them."""

    obs: Numbers  # (rows, observation)
    noise: Numbers  # (rows, action)
    reference: NDArray[np.float64]  # (rows, action)
    checkpoint: Numbers  # (rows, action)

    @property
    def checkpoint_error(self) -> float:
        """How far the checkpoint is from the referee."""
        return largest(self.checkpoint - self.reference)

    @property
    def tolerance(self) -> float:
        """How far an export may be from the referee."""
        return 1e-6 + 4 * self.checkpoint_error

    @property
    def farthest(self) -> float:
        """How far an export may be from the checkpoint."""
        size = max(1.0, self.largest_action)
        return 1e-5 * size + min(2 * self.checkpoint_error, 1e-4 * size)

    @property
    def largest_action(self) -> float:
        """The largest magnitude of the checkpoint's actions."""
        return largest(self.checkpoint)

    def keeps(self, actions: Numbers) -> bool:
        """Return whether `actions` (rows, action) keep the contract; NaN never does."""
        near = largest(actions - self.checkpoint) <= self.farthest
        return bool(near and largest(actions - self.reference) <= self.tolerance)


def observations(program: Program, rows: int, random: np.random.Generator) -> Numbers:
    """Draw observations (rows, observation) like those that the normaliser has seen, every seventh of them wild."""
    drawn = random.standard_normal((rows, program.observation_size))
    drawn[::7] *= WILD
    return (program.shift + drawn / program.scale).astype(np.float32)


def noise_rows(program: Program, choice: NoiseChoice, fixed: Numbers | None, rows: int, seed: int = SEED) -> Numbers:
    """Return the noise (rows, action) of `choice`: drawn from N(0, 1), or the same draw `fixed` in every row."""
    if choice.mode == "fixed" and fixed is not None:
        return np.tile(fixed.reshape(1, -1), (rows, 1)).astype(np.float32)
    return np.random.default_rng(seed + 1).standard_normal((rows, program.action_size)).astype(np.float32)


def vectors(
    program: Program, checkpoint: Actions, choice: NoiseChoice, fixed: Numbers | None
) -> tuple[Vectors, Vectors]:
    """Return the ordinary rows, and the extreme ones: observations of +-1e6, 0 and -0."""
    ordinary = observations(program, ROWS, np.random.default_rng(SEED))
    extreme = np.tile(np.array(EXTREMES, dtype=np.float32)[:, None], (1, program.observation_size))
    made = []
    for obs in (ordinary, extreme):
        noise = noise_rows(program, choice, fixed, len(obs))
        made.append(Vectors(obs, noise, program.evaluate(obs, noise), checkpoint(obs, noise)))
    return made[0], made[1]


def verify(ordinary: Vectors, extreme: Vectors, exports: Mapping[str, Actions]) -> Verification:
    """Compare every one of `exports`, by name, with the referee and the checkpoint."""
    comparisons = []
    for name, export in exports.items():
        usual, wild = export(ordinary.obs, ordinary.noise), export(extreme.obs, extreme.noise)
        comparisons.append(
            Deviation(
                name=name,
                error=largest(usual - ordinary.reference),
                distance=largest(usual - ordinary.checkpoint),
                tolerance=ordinary.tolerance,
                exact=ordinary.keeps(usual) and extreme.keeps(wild),
            )
        )
    rows = len(ordinary.obs) + len(extreme.obs)
    return Verification(rows, ordinary.checkpoint_error, ordinary.largest_action, tuple(comparisons))


def largest(values: NDArray[np.floating]) -> float:
    """Return the largest magnitude; NaN where there is a NaN."""
    return float(np.abs(values).max())
