"""The contract of an export: how near it has to be to the policy, and how that is measured.

The referee is the `Program` in float64. On ordinary observations and, separately, on extreme ones:

    max |export - referee|     <=  1e-6 + 4 · max |checkpoint - referee|
    max |export - checkpoint|  <=  1e-5 · A,  A = max(1, max |action|)

So an export may be off by a few times what the float32 network is off. A few actions in a thousand of a flow to a
mixture lie between two of its Gaussians, where rounding decides to which of them they go: of such a policy the
hundredth of the rows that is farthest off is left out of each maximum, and may be off by 1e-2 · A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import MixturePart, Program

Numbers = NDArray[np.float32]
Actions = Callable[
    [Numbers, Numbers], Numbers
]  # observations (rows, observation), noise (rows, action) -> (rows, action)

ROWS = 1000
WILD = 20.0  # times the usual spread, every seventh row: there the normaliser's limit acts
EXTREMES = (1e6, -1e6, 0.0, -0.0)
SEED = 20_260
BETWEEN = 0.01  # the share of a mixture's rows that may lie between two Gaussians
LARGEST_BETWEEN = 1e-2  # how far those may be off, times A


@dataclass(frozen=True)
class Deviation:
    """How far an export is from the referee and from the checkpoint, and what is allowed; on the worse rows."""

    name: str
    error: float  # max |export - referee|, ordinary rows but those left out
    distance: float  # max |export - checkpoint|, likewise
    tolerance: float  # of `error`
    farthest: float  # of `distance`
    largest: float  # max |export - referee|, all ordinary rows
    exact: bool  # on ordinary and on extreme rows


@dataclass(frozen=True)
class Verification:
    """The outcome of `verify`."""

    rows: int
    left_out: float  # the share of rows that is left out of the maxima
    checkpoint_error: float  # max |checkpoint - referee|, ordinary rows but those left out
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
    left_out: float = 0.0  # the share of rows that is left out of the maxima, and may be off by 1e-2

    @property
    def checkpoint_error(self) -> float:
        """How far the checkpoint is from the referee."""
        return self.most(self.checkpoint - self.reference)

    @property
    def tolerance(self) -> float:
        """How far an export may be from the referee."""
        return 1e-6 + 4 * self.checkpoint_error

    @property
    def farthest(self) -> float:
        """How far an export may be from the checkpoint."""
        return 1e-5 * max(1.0, self.largest_action)

    @property
    def largest_action(self) -> float:
        """The largest magnitude of the checkpoint's actions."""
        return largest(self.checkpoint)

    def most(self, differences: NDArray[np.floating]) -> float:
        """Return the largest magnitude in the rows (rows, action) but those left out; NaN where there is a NaN."""
        return float(np.quantile(np.abs(differences).max(axis=1), 1 - self.left_out, method="lower"))

    def keeps(self, actions: Numbers) -> bool:
        """Return whether `actions` (rows, action) keep the contract; NaN never does."""
        errors = actions - self.reference
        kept = self.most(actions - self.checkpoint) <= self.farthest and self.most(errors) <= self.tolerance
        between = LARGEST_BETWEEN * max(1.0, self.largest_action)
        return bool(kept and (self.left_out == 0 or largest(errors) <= between))

    def usual(self) -> NDArray[np.intp]:
        """Return the indices of the rows in which the checkpoint is no farther off than in all but those left out."""
        return np.flatnonzero(np.abs(self.checkpoint - self.reference).max(axis=1) <= self.checkpoint_error)


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


def vectors_of(program: Program, checkpoint: Actions, obs: Numbers, noise: Numbers) -> Vectors:
    """Return the rows `obs` (rows, observation) and `noise` (rows, action), with what both make of them."""
    return Vectors(obs, noise, program.evaluate(obs, noise), checkpoint(obs, noise), left_out(program))


def left_out(program: Program) -> float:
    """Return the share of rows that the contract leaves out of its maxima for `program`."""
    return BETWEEN if isinstance(program.flow, MixturePart) else 0.0


def vectors(
    program: Program, checkpoint: Actions, choice: NoiseChoice, fixed: Numbers | None
) -> tuple[Vectors, Vectors]:
    """Return the ordinary rows, and the extreme ones: observations of +-1e6, 0 and -0."""
    ordinary = observations(program, ROWS, np.random.default_rng(SEED))
    extreme = np.tile(np.array(EXTREMES, dtype=np.float32)[:, None], (1, program.observation_size))
    made = []
    for obs in (ordinary, extreme):
        noise = noise_rows(program, choice, fixed, len(obs))
        made.append(vectors_of(program, checkpoint, obs, noise))
    return made[0], made[1]


def verify(ordinary: Vectors, extreme: Vectors, exports: Mapping[str, Actions]) -> Verification:
    """Compare every one of `exports`, by name, with the referee and the checkpoint."""
    comparisons = []
    for name, export in exports.items():
        usual, wild = export(ordinary.obs, ordinary.noise), export(extreme.obs, extreme.noise)
        comparisons.append(
            Deviation(
                name=name,
                error=ordinary.most(usual - ordinary.reference),
                distance=ordinary.most(usual - ordinary.checkpoint),
                tolerance=ordinary.tolerance,
                farthest=ordinary.farthest,
                largest=largest(usual - ordinary.reference),
                exact=ordinary.keeps(usual) and extreme.keeps(wild),
            )
        )
    rows = len(ordinary.obs) + len(extreme.obs)
    return Verification(rows, ordinary.left_out, ordinary.checkpoint_error, ordinary.largest_action, tuple(comparisons))


def largest(values: NDArray[np.floating]) -> float:
    """Return the largest magnitude; NaN where there is a NaN."""
    return float(np.abs(values).max())
