"""How good a policy is: whole episodes, their returns, and how far the mean can be trusted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.contracts.errors import EnvironmentFailed
from flowrl.contracts.protocols import Act, Env
from flowrl.evaluation import statistics

LONGEST_EPISODE = 1_000_000  # steps; an episode that is still running then is taken to have no end


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one evaluation; episode k of slot i stands at index k x slots + i."""

    returns: NDArray[np.float64]  # (episodes,) sum of the rewards, not discounted
    lengths: NDArray[np.int64]  # (episodes,) steps
    successes: NDArray[np.float64]  # (episodes,) 1, 0, or nan where the environment did not say
    measures: dict[str, NDArray[np.float64]]  # (episodes,) each: what else the environment says of an episode
    clips: NDArray[np.str_]  # (episodes,) the motion that an episode followed, "" where there is none
    actions: int  # how many were computed, those of slots that were already done included
    act_seconds: float  # wall time spent computing them

    def by_clip(self) -> Iterator[tuple[str, Evaluation]]:
        """Each motion in the order of its first episode, and the episodes that followed it."""
        for clip in dict.fromkeys(self.clips.tolist()):
            own = self.clips == clip
            yield (
                clip,
                replace(
                    self,
                    returns=self.returns[own],
                    lengths=self.lengths[own],
                    successes=self.successes[own],
                    measures={name: values[own] for name, values in self.measures.items()},
                    clips=self.clips[own],
                ),
            )

    @property
    def action_us(self) -> float:
        """Microseconds of wall time per action."""
        return 1e6 * self.act_seconds / self.actions


@torch.no_grad()
def evaluate(
    act: Act,
    env: Env,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    longest: int = LONGEST_EPISODE,
) -> Evaluation:
    """Play exactly `episodes` episodes, ended or truncated, without favouring short ones.

    Taking the first episodes to end would count too many short ones: a slot that fails early gets the next
    try sooner. So the share of each slot is fixed beforehand, the first episodes % slots slots playing one
    more, and what a slot plays beyond its share is ignored.

    Deterministic for a `seed` as far as `act` is: a policy that draws noise must bring its own generator.
    `progress` is told the number of episodes done whenever it grows. Raises EnvironmentFailed when an
    episode is still running after `longest` steps.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    slots = env.count
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, dtype=np.int64)
    successes = np.full(episodes, math.nan)
    measures: dict[str, NDArray[np.float64]] = {}
    clips = np.full(episodes, "", dtype=object)

    obs = env.reset(seed)
    current = np.arange(slots)  # (slots,) the index of the episode that each slot is playing
    total, length = np.zeros(slots), np.zeros(slots, dtype=np.int64)  # of that episode so far
    done, actions, act_seconds = 0, 0, 0.0
    while done < episodes:
        started = time.perf_counter()
        action = act(obs)
        act_seconds += time.perf_counter() - started
        actions += slots

        step = env.step(action)
        obs = step.obs
        total += step.reward.numpy()
        length += 1
        ended = (step.terminated | step.truncated).numpy()
        counted = ended & (current < episodes)
        index = current[counted]
        returns[index] = total[counted]
        lengths[index] = length[counted]
        successes[index] = step.success.numpy()[counted]
        for name, values in step.measures.items():
            measures.setdefault(name, np.full(episodes, math.nan))[index] = values.numpy()[counted]
        if step.clip is not None:
            clips[index] = [env.clips[int(clip)] for clip in step.clip[torch.from_numpy(counted)]]
        current[ended] += slots
        total[ended] = 0
        length[ended] = 0

        done += len(index)
        if progress and len(index):
            progress(done)
        endless = (length >= longest) & (current < episodes)
        if endless.any():
            raise EnvironmentFailed(
                f"An episode of environment {endless.argmax()} is still running after {longest} steps, so "
                "the evaluation would not end. Give it a time limit: env.options.max_episode_steps."
            )
    return Evaluation(returns, lengths, successes, measures, clips.astype(np.str_), actions, act_seconds)


def summary(
    evaluation: Evaluation, *, sampler: str | None, steps: int | None, nfe: float | None, noise: str | None
) -> dict[str, Any]:
    """The evaluation in numbers, ready for JSON; None (null) where a number is not known.

    `return_ci95` is the bootstrap interval of the mean and `return_iqm_ci95` that of the interquartile
    mean, both [low, high]; `success_ci95` is Wilson's; measures of the environment stand with their means.
    What was evaluated is passed through: the sampler's
    name, its number of steps, its velocity evaluations per action and the noise mode.
    """
    returns = evaluation.returns
    succeeded = _succeeded(evaluation.successes)
    trials = 0 if succeeded is None else len(succeeded)
    return {
        "return_mean": float(statistics.mean(returns)),
        "return_stderr": _known(statistics.standard_error(returns)),
        "return_std": _known(statistics.deviation(returns)),
        "return_ci95": _known_interval(statistics.bootstrap(returns)),
        "return_iqm": float(statistics.interquartile_mean(returns)),
        "return_iqm_ci95": _known_interval(statistics.bootstrap(returns, statistics.interquartile_mean)),
        "success_rate": None if succeeded is None else float(succeeded.mean()),
        "success_ci95": None if succeeded is None else list(statistics.wilson(succeeded.sum(), trials)),
        "length_mean": float(statistics.mean(evaluation.lengths)),
        **{name: _mean_of_known(values) for name, values in evaluation.measures.items()},
        "episodes": len(returns),
        "sampler": sampler,
        "steps": steps,
        "nfe": nfe,
        "noise": noise,
        "action_us": evaluation.action_us,
    }


def _succeeded(successes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(episodes,) 1 or 0, or None when the environment never spoke of success.

    Silence about one episode among others counts as failure: an environment that mentions successes only
    would otherwise have a rate of 1.
    """
    return None if np.isnan(successes).all() else np.nan_to_num(successes, nan=0.0)


def _mean_of_known(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _known_interval(interval: statistics.Interval) -> list[float | None]:
    return [_known(end) for end in interval]
