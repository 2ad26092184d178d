"""The training loop: collect, update, report, until the step budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from flowrl.contracts.protocols import Act, Env
from flowrl.training.learner import Learner
from flowrl.training.rollout import Episodes, collect

Metrics = dict[str, float]


class Training:
    """A run in progress."""

    def __init__(self, act: Act, env: Env, learner: Learner, rollout_steps: int, total_steps: int) -> None:
        self.act = act
        self.env = env
        self.learner = learner
        self.rollout_steps = rollout_steps
        self.total_steps = total_steps
        self.episodes = Episodes.starting(env.count)
        self.obs = torch.empty(0)
        self.iteration = 0
        self.env_steps = 0
        self.seconds = 0.0

    def start(self, seed: int) -> None:
        """Reset the environments: the first observations of a new run."""
        self.obs = self.env.reset(seed=seed)

    @property
    def finished(self) -> bool:
        return self.env_steps >= self.total_steps

    def iterate(self) -> Metrics:
        """One iteration: a rollout, an update; returns its metrics."""
        begin = time.perf_counter()
        rollout, self.obs = collect(self.act, self.env, self.obs, self.episodes, self.rollout_steps)
        collected = time.perf_counter()
        metrics = self.learner.update(rollout)
        end = time.perf_counter()
        self.iteration += 1
        steps = rollout.rewards.numel()
        self.env_steps += steps
        self.seconds += end - begin
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "seconds": self.seconds,
            "env_steps_per_s": steps / (end - begin),
            "collect_s": collected - begin,
            "update_s": end - collected,
            "episodes": self.episodes.ended,
            **self.episodes.report(),
            **metrics,
        }

    def run(self, report: Callable[[Metrics], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Iterate until the budget is spent or `stop` says so; `report` hears of every iteration."""
        while not self.finished and not stop():
            report(self.iterate())

    def progress(self) -> dict[str, float]:
        """How far the run has come."""
        return {"iteration": self.iteration, "env_steps": self.env_steps, "seconds": self.seconds}

    def set_progress(self, progress: dict[str, float]) -> None:
        """Go on from `progress()`'s result."""
        self.iteration, self.env_steps = int(progress["iteration"]), int(progress["env_steps"])
        self.seconds = progress["seconds"]


@dataclass
class Best:
    """The best mean return over the episodes of some iterations in a row.

    Which iterations those are does not depend on when a run was saved or interrupted.
    """

    best_return: float = -math.inf
    window_return: float = 0.0  # sum over the window's episodes
    window_episodes: int = 0
    episodes: int = 0  # ended since the training began

    def add(self, return_mean: float, episodes: int) -> None:
        """Take in an iteration: its mean return, and the number of episodes ended so far."""
        self.window_return += return_mean * (episodes - self.episodes)
        self.window_episodes += episodes - self.episodes
        self.episodes = episodes

    def close(self) -> bool:
        """End the window; whether it was the best so far."""
        mean = self.window_return / self.window_episodes if self.window_episodes else -math.inf
        self.window_return, self.window_episodes = 0.0, 0
        better = mean > self.best_return
        self.best_return = max(mean, self.best_return)
        return better
