"""Signs in the metrics that a run is about to fail, each with its likely cause and the key to change."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# A sign must last, and lie far outside of what an update in order shows: a warning that is often wrong is not read.
# On shipped recipes that learned, the CFM loss stayed below 3 times its minimum, the spread above 0.6 of its first
# value and the clipped share below 0.5.
PATIENCE = 20  # updates in a row that must show a sign
BEGINNING = 10  # updates at the beginning of a run that are not judged: the critic knows nothing yet
LOSS_RISE = 10.0  # CFM loss, as a multiple of its smallest value so far
LOSS_EXPLOSION = 100.0  # the same, for a run that fails within a few updates
PATIENCE_EXPLOSION = 3  # updates in a row
LOSS_OVERFLOW = 1e4  # the same, for a run that fails at the next update, even in the beginning
SPREAD_LEFT = 0.05  # spread of the actions, as a share of that at the beginning
CLIPPED = 0.9  # share of ratios outside the clip range
WORSE_THAN_MEAN = -5.0  # explained variance: the critic is far worse than a constant
PATIENCE_CRITIC = 100  # updates: a critic recovers by itself more often than a policy


@dataclass(frozen=True)
class _Sign:
    """A condition on (metrics, history), the updates in a row that it must hold, and what to print then."""

    name: str
    holds: Callable[[Mapping[str, float], WarningSigns], bool]
    patience: int
    text: str
    in_beginning: bool = False  # whether it is also judged in the first updates


@dataclass
class WarningSigns:
    """Judges the metrics of each update in turn; a resumed run begins to judge again from its first update."""

    smallest_loss: float = math.inf
    first_spreads: deque[float] = field(default_factory=lambda: deque(maxlen=BEGINNING))
    updates: int = 0
    warnings: list[str] = field(default_factory=list)  # so far, each sign once
    _lasted: dict[str, int] = field(default_factory=dict)  # sign -> updates in a row

    def add(self, metrics: Mapping[str, float]) -> list[str]:
        """Judge the metrics of an update; return the warnings that are new, each a line."""
        self.updates += 1
        loss, spread = metrics.get("cfm_loss", math.inf), metrics.get("action_spread")
        self.smallest_loss = min(self.smallest_loss, loss)
        if spread is not None and self.updates <= BEGINNING:
            self.first_spreads.append(spread)
        new = []
        for sign in SIGNS:
            if self.updates <= BEGINNING and not sign.in_beginning:
                continue
            lasted = self._lasted.get(sign.name, 0)
            if lasted == sign.patience:  # reported
                continue
            self._lasted[sign.name] = lasted + 1 if sign.holds(metrics, self) else 0
            if self._lasted[sign.name] == sign.patience and sign.text not in self.warnings:
                new.append(sign.text)
        self.warnings += new
        return new


def _loss_has_risen(times: float) -> Callable[[Mapping[str, float], WarningSigns], bool]:
    return lambda metrics, signs: metrics.get("cfm_loss", 0.0) > times * signs.smallest_loss


def _spread_has_collapsed(metrics: Mapping[str, float], signs: WarningSigns) -> bool:
    spread = metrics.get("action_spread")
    if spread is None or not signs.first_spreads:
        return False
    return spread < SPREAD_LEFT * sorted(signs.first_spreads)[len(signs.first_spreads) // 2]


LOSS_TEXT = (
    "the CFM loss is far above its minimum: the flow no longer fits the actions it takes, because its "
    "steps are too large. Lower learner.learning_rate, or set learner.loss_limit (20 in fpo++)."
)

SIGNS = (
    _Sign("cfm_loss", _loss_has_risen(LOSS_RISE), PATIENCE, LOSS_TEXT),
    _Sign("cfm_loss_explosion", _loss_has_risen(LOSS_EXPLOSION), PATIENCE_EXPLOSION, LOSS_TEXT),
    _Sign("cfm_loss_overflow", _loss_has_risen(LOSS_OVERFLOW), 1, LOSS_TEXT, in_beginning=True),
    _Sign(
        "action_spread",
        _spread_has_collapsed,
        PATIENCE,
        f"the spread of the actions has been below {SPREAD_LEFT:.0%} of its first value for {PATIENCE} updates: the "
        "policy no longer explores. Lower learner.learning_rate or learner.clip; for a Gaussian policy raise "
        "learner.entropy_coefficient, for a flow policy.perturbation.",
    ),
    _Sign(
        "clipped_share",
        lambda metrics, _: metrics.get("clipped_share", 0.0) > CLIPPED,
        PATIENCE,
        f"more than {CLIPPED:.0%} of the ratios have been outside the clip range for {PATIENCE} updates: most actions "
        "no longer teach anything. Lower learner.learning_rate or learner.epochs, or raise learner.clip.",
    ),
    _Sign(
        "explained_variance",
        lambda metrics, _: metrics.get("explained_variance", 0.0) < WORSE_THAN_MEAN,
        PATIENCE_CRITIC,
        f"the explained variance has been below {WORSE_THAN_MEAN:g} for {PATIENCE_CRITIC} updates: the critic predicts "
        "returns worse than a constant would. Lower learner.critic_learning_rate, or set learner.reward_scale so that "
        "returns are of the order of 1 to 100.",
    ),
)
