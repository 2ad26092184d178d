"""Learning-rate schedules: factors on the initial rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowrl.contracts.settings import Settings


class ScheduleSettings(Settings):
    """How the learning rate changes from update to update."""

    kind: Literal["constant", "linear", "adaptive"] = "constant"
    """constant; linear, to zero over the run; adaptive, so that the last epoch's policy change stays near
    `target`."""
    target: float | None = Field(None, gt=0, le=1000)
    """For `adaptive`: the change to keep. It is the KL divergence where the ratio has one (likelihood, tail, exact),
    and the clipped share of other flows; with the surrogate `mirror`, whose ratios belong outside the clip range, the
    standard deviation of their log-ratio over the clip. null: 0.01, and 1 for the last."""
    smallest: float = Field(0.02, gt=0, le=1)
    """For `adaptive`: lower end of the factor on the learning rate."""
    largest: float = Field(5.0, ge=1, le=1e6)
    """For `adaptive`: upper end of the factor on the learning rate."""


class Schedule:
    """The factor on the learning rate: constant, falling linearly to 0, or following the policy's change.

    `adaptive` divides the factor by 1.5 after a change of more than twice the target and multiplies it by 1.5 after
    one of less than half of it, as rsl_rl does by the KL divergence (Rudin et al. 2021, arXiv 2109.11978); the idea is
    that of PPO's adaptive KL penalty (Schulman et al. 2017, arXiv 1707.06347, section 4).
    """

    def __init__(self, settings: ScheduleSettings, total_updates: int, usual_target: float = 0.01) -> None:
        """Begin at a factor of 1; `usual_target` is that of settings without one."""
        self._settings = settings
        self._target = usual_target if settings.target is None else settings.target
        self._total_updates = total_updates
        self.updates = 0
        self.factor = 1.0

    def advance(self, change: float) -> float:
        """Return the factor for the next update, after an update that changed the policy by `change`."""
        settings = self._settings
        self.updates += 1
        if settings.kind == "linear":
            self.factor = self._rest()
        elif settings.kind == "adaptive":
            if change > 2 * self._target:
                self.factor = max(settings.smallest, self.factor / 1.5)
            elif change < self._target / 2:
                self.factor = min(settings.largest, self.factor * 1.5)
        return self.factor

    def _rest(self) -> float:
        """The share of the run's updates that is left."""
        return max(0.0, 1 - self.updates / self._total_updates)

    def state_dict(self) -> dict[str, float]:
        """Return the number of updates and the factor, for `load_state_dict`."""
        return {"updates": self.updates, "factor": self.factor}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from `state_dict`'s result, also where it is that of a schedule with other settings.

        A linear schedule continues by the present length of the run, an adaptive one from the factor of before, within
        the present limits.
        """
        settings = self._settings
        self.updates = int(state["updates"])
        if settings.kind == "linear":
            self.factor = self._rest()
        elif settings.kind == "adaptive":
            self.factor = min(max(state["factor"], settings.smallest), settings.largest)
        else:
            self.factor = 1.0
