"""The training loop: collect, update, report, until the step budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from flowrl.training.learner import Learner
from flowrl.training.rollout import Collector, Rollout, report
from flowrl.training.shards import ALONE, Shards

Metrics = dict[str, float]


class Training:
    """A training run in progress: it owns a collector for each of the own shards, and the counters of the run."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        learner: Learner,
        rollout_steps: int,
        total_steps: int,
        shards: Shards = ALONE,
    ) -> None:
        self.collectors = collectors
        self.learner = learner
        self.rollout_steps = rollout_steps
        self.total_steps = total_steps
        self.shards = shards
        self.iteration = 0
        self.env_steps = 0
        self.seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether the budget of environment steps is spent."""
        return self.env_steps >= self.total_steps

    def iterate(self) -> Metrics:
        """Collect a rollout for each shard and update on them; returns the metrics of the iteration."""
        begin = time.perf_counter()
        rollouts = self.collect()
        collected = time.perf_counter()
        metrics = self.learner.update(*rollouts)
        end = time.perf_counter()
        self.iteration += 1
        steps = self.shards.count * rollouts[0].rewards.numel()
        episodes = report([each.episodes for each in self.collectors], self.shards)
        self.env_steps += steps
        self.seconds += end - begin
        return {
            **self.progress(),
            "env_steps_per_s": steps / (end - begin),
            "collect_s": collected - begin,
            "update_s": end - collected,
            "episodes": episodes.pop("episodes"),
            "action_spread": self._spread([rollout.actions for rollout in rollouts]),
            **episodes,
            **metrics,
        }

    def collect(self) -> list[Rollout]:
        """Collect a rollout of the policy as it is for each of the own shards."""
        return [each.collect(self.rollout_steps) for each in self.collectors]

    def _spread(self, actions: Sequence[Tensor]) -> float:
        """Compute the mean over the action's numbers of their standard deviations over the rollouts of all shards."""
        if self.shards.count == 1:
            return actions[0].std(dim=(0, 1), correction=0).mean().item()
        number, _, squares = self.shards.moments([each.flatten(0, 1) for each in actions])
        return (squares / number).sqrt().mean().item()

    def run(self, report: Callable[[Metrics], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Iterate until the budget is spent or `stop` returns true; `report` is called with the metrics of each."""
        while not self.finished and not stop():
            report(self.iterate())

    def progress(self) -> dict[str, float]:
        """Return the counters of the run, for `set_progress` and the checkpoint."""
        return {"iteration": self.iteration, "env_steps": self.env_steps, "seconds": self.seconds}

    def set_progress(self, progress: dict[str, float]) -> None:
        """Continue from `progress()`'s result."""
        self.iteration, self.env_steps = int(progress["iteration"]), int(progress["env_steps"])
        self.seconds = progress["seconds"]


@dataclass
class Best:
    """The best mean return over the episodes of a window of iterations, by which best.pt is chosen.

    Windows follow one another without overlap, and do not depend on when a run was saved or interrupted. As the
    largest of many noisy means, `best_return` is too high on average (the optimizer's curse, Smith & Winkler 2006,
    doi 10.1287/mnsc.1050.0451): evaluate best.pt to measure it. The rule itself is flowrl's.

    The returns are those of the weights that acted during the window, each for one rollout, with the noise and the
    perturbation of training. So best.pt is evaluated with the acting weights at the window's end, also where a moving
    average of them is kept, whose returns nobody measured (`evaluation_weights` in the checkpoint).
    """

    best_return: float = -math.inf
    window_return: float = 0.0  # sum over the window's episodes
    window_episodes: int = 0
    episodes: int = 0  # ended since the training began

    def add(self, return_mean: float, episodes: int) -> None:
        """Add an iteration: the mean return of its episodes, and the number of episodes ended since the run began."""
        self.window_return += return_mean * (episodes - self.episodes)
        self.window_episodes += episodes - self.episodes
        self.episodes = episodes

    def close(self) -> bool:
        """End the window; returns whether it was the best so far."""
        mean = self.window_return / self.window_episodes if self.window_episodes else -math.inf
        self.window_return, self.window_episodes = 0.0, 0
        better = mean > self.best_return
        self.best_return = max(mean, self.best_return)
        return better
