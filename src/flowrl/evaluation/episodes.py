"""The evaluation of a policy: complete episodes, their returns, and the intervals of their means."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.contracts.errors import EnvironmentFailed
from flowrl.contracts.protocols import Act, Env, Step
from flowrl.evaluation import statistics

LONGEST_EPISODE = 1_000_000  # steps; an episode that is still running then is assumed to have no end


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one evaluation; episode k of slot i has the index k x slots + i."""

    returns: NDArray[np.float64]  # (episodes,) sum of the rewards, not discounted
    lengths: NDArray[np.int64]  # (episodes,) steps
    successes: NDArray[np.float64]  # (episodes,) 1, 0, or nan where the environment does not report it
    measures: dict[str, NDArray[np.float64]]  # (episodes,) each: further numbers that the environment reports
    variants: NDArray[np.str_]  # (episodes,) names from `Env.variants`, "" where there are none
    actions: int  # computed in all, also for slots whose episodes were complete
    act_seconds: float  # wall time of computing them

    def by_variant(self) -> Iterator[tuple[str, Evaluation]]:
        """Yield each variant, in the order of its first episode, with its episodes alone."""
        for variant in dict.fromkeys(self.variants.tolist()):
            rows = self.variants == variant
            yield (
                variant,
                replace(
                    self,
                    returns=self.returns[rows],
                    lengths=self.lengths[rows],
                    successes=self.successes[rows],
                    measures={name: values[rows] for name, values in self.measures.items()},
                    variants=self.variants[rows],
                ),
            )

    @classmethod
    def joined(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Return the episodes of all `parts`, one after another; nan where a part has no such measure."""
        names = dict.fromkeys(name for part in parts for name in part.measures)
        unknown = [np.full(len(part.returns), math.nan) for part in parts]
        return cls(
            np.concatenate([part.returns for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.successes for part in parts]),
            {
                name: np.concatenate([p.measures.get(name, gap) for p, gap in zip(parts, unknown, strict=True)])
                for name in names
            },
            np.concatenate([part.variants for part in parts]),
            sum(part.actions for part in parts),
            sum(part.act_seconds for part in parts),
        )

    @property
    def action_us(self) -> float:
        """Microseconds of wall time per action."""
        return 1e6 * self.act_seconds / self.actions


class EpisodeLog:
    """The running episodes of all slots, and the results of those that count."""

    def __init__(self, slots: int, episodes: int, variants: tuple[str, ...]) -> None:
        self.count = 0  # episodes that have ended, of those that count
        self.returns = np.zeros(episodes)
        self.lengths = np.zeros(episodes, dtype=np.int64)
        self.successes = np.full(episodes, math.nan)
        self.measures: dict[str, NDArray[np.float64]] = {}
        self.variants = np.full(episodes, "", dtype=object)
        self._names = variants
        self._index = np.arange(slots)  # (slots,) of the running episodes
        self._total, self._length = np.zeros(slots), np.zeros(slots, dtype=np.int64)  # so far

    def add(self, step: Step) -> None:
        """Add one step of all slots."""
        self._total += step.reward.cpu().numpy()
        self._length += 1
        ended = (step.terminated | step.truncated).cpu().numpy()
        counted = ended & (self._index < len(self.returns))
        index = self._index[counted]
        self.returns[index] = self._total[counted]
        self.lengths[index] = self._length[counted]
        self.successes[index] = step.success.cpu().numpy()[counted]
        for name, values in step.measures.items():
            of_all = self.measures.setdefault(name, np.full(len(self.returns), math.nan))
            of_all[index] = values.cpu().numpy()[counted]
        if step.variant is not None:
            self.variants[index] = [self._names[int(number)] for number in step.variant.cpu().numpy()[counted]]
        self._index[ended] += len(ended)
        self._total[ended] = 0
        self._length[ended] = 0
        self.count += len(index)

    @property
    def longest_running(self) -> int:
        """Steps of the longest episode that is still running and counts; 0 when there is none."""
        return int(self._length[self._index < len(self.returns)].max(initial=0))

    def endless(self, longest: int) -> int | None:
        """Return a slot whose episode, one that counts, has run for `longest` steps; None if there is none."""
        slots = np.flatnonzero((self._length >= longest) & (self._index < len(self.returns)))
        return int(slots[0]) if len(slots) else None


@torch.no_grad()
def evaluate(
    act: Act,
    env: Env,
    *,
    episodes: int,
    seed: int,
    longest: int = LONGEST_EPISODE,
    progress: Callable[[int, int], None] = lambda ended, running: None,
) -> Evaluation:
    """Play exactly `episodes` episodes, terminated or truncated, without favouring short ones.

    Taking the first episodes to end would count too many short ones: a slot that fails early starts its next
    episode sooner. So the share of each slot is fixed beforehand, the first episodes % slots slots playing one
    more, and what a slot plays beyond its share is ignored.

    `progress` is called after every step with the number of episodes that have ended and the steps of the longest
    one that is still running.

    Deterministic for a `seed` as far as `act` is: a policy that draws noise must bring its own generator.
    Raises EnvironmentFailed when an episode is still running after `longest` steps.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    log = EpisodeLog(env.count, episodes, env.variants)
    obs = env.reset(seed)
    actions, act_seconds = 0, 0.0
    while log.count < episodes:
        started = time.perf_counter()
        action = act(obs)
        act_seconds += time.perf_counter() - started
        actions += env.count

        step = env.step(action)
        obs = step.obs
        log.add(step)
        progress(log.count, log.longest_running)
        if (slot := log.endless(longest)) is not None:
            raise EnvironmentFailed(
                f"An episode of environment {slot} is still running after {longest} steps, so "
                "the evaluation would not end. Give it a time limit: env.options.max_episode_steps."
            )
    variants = log.variants.astype(np.str_)
    return Evaluation(log.returns, log.lengths, log.successes, log.measures, variants, actions, act_seconds)


def summary(
    evaluation: Evaluation,
    *,
    sampler: str | None,
    steps: int | None,
    nfe: float | None,
    noise: str | None,
    noise_scale: float | None = None,
    perturbation: float = 0.0,
) -> dict[str, Any]:
    """Summarise an evaluation as plain numbers, ready for JSON; None (null) where a number is not known.

    `return_ci95` is the bootstrap interval of the mean and `return_iqm_ci95` that of the interquartile mean, both
    [low, high]; `success_ci95` is Wilson's; measures of the environment are averaged. The arguments are passed
    through: the sampler's name, its number of steps, its velocity evaluations per action, the noise mode and its scale,
    and the standard deviation of the perturbation that was added.
    """
    returns = evaluation.returns
    succeeded = _succeeded(evaluation.successes)
    return {
        "return_mean": float(statistics.mean(returns)),
        "return_stderr": _known(statistics.standard_error(returns)),
        "return_std": _known(statistics.deviation(returns)),
        "return_ci95": known_interval(statistics.bootstrap(returns)),
        "return_iqm": float(statistics.interquartile_mean(returns)),
        "return_iqm_ci95": known_interval(statistics.bootstrap(returns, statistics.interquartile_mean)),
        "success_rate": None if succeeded is None else float(succeeded.mean()),
        "success_ci95": None if succeeded is None else list(statistics.wilson(succeeded.sum(), len(succeeded))),
        "length_mean": float(statistics.mean(evaluation.lengths)),
        **{name: _mean_of_known(values) for name, values in evaluation.measures.items()},
        "episodes": len(returns),
        "sampler": sampler,
        "steps": steps,
        "nfe": nfe,
        "noise": noise,
        "noise_scale": noise_scale,
        "perturbation": perturbation,
        "action_us": evaluation.action_us,
    }


def _succeeded(successes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return (episodes,) 1 or 0, or None when the environment reported no success or failure at all.

    An episode without a report among others counts as a failure: an environment that reports successes only
    would otherwise have a rate of 1.
    """
    return None if np.isnan(successes).all() else np.nan_to_num(successes, nan=0.0)


def _mean_of_known(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def known_interval(interval: statistics.Interval) -> list[float | None]:
    """Return the ends of an interval for JSON; None where one is not finite."""
    return [_known(end) for end in interval]
