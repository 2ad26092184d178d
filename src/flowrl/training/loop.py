"""The training loop: collect, update, report, until the step budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from flowrl.contracts import Act, Env
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
