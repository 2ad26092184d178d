"""The training loop: counters by hand, its end, and the means of metrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowrl.contracts.protocols import Step
from flowrl.training.loop import Training
from flowrl.training.metrics import Means
from flowrl.training.rollout import Collector


class Still:
    """Three environments in which nothing happens, but that the first ends its episode in every second step."""

    count, observation_size, action_size = 3, 1, 1

    def __init__(self) -> None:
        self.time = 0
        self.seeds: list[int | None] = []

    def reset(self, seed: int | None) -> torch.Tensor:
        self.seeds.append(seed)
        return torch.zeros(3, 1)

    def step(self, action: torch.Tensor) -> Step:
        self.time += 1
        no = torch.zeros(3, dtype=torch.bool)
        ended = torch.tensor([self.time % 2 == 0, False, False])
        obs = torch.zeros(3, 1)
        return Step(obs, torch.ones(3), ended, no, obs, torch.full((3,), torch.nan))


class Resting:
    """A learner that only counts."""

    updates = 0

    def update(self, rollout: Any) -> dict[str, float]:
        self.updates += 1
        return {"policy_loss": float(self.updates)}


def training(total_steps: int) -> Training:
    collector = Collector(lambda obs: obs, Still())
    collector.start(seed=11)
    return Training([collector], Resting(), rollout_steps=4, total_steps=total_steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(("total_steps", "iterations"), [(1, 1), (12, 1), (13, 2), (24, 2), (25, 3)])
def test_a_run_ends_with_the_rollout_that_reaches_its_budget(total_steps: int, iterations: int) -> None:
    """4 steps of 3 environments are 12 env steps."""
    one, reported = training(total_steps), list[dict[str, float]]()
    one.run(reported.append)
    assert [metrics["env_steps"] for metrics in reported] == [12 * k for k in range(1, iterations + 1)]
    assert [metrics["iteration"] for metrics in reported] == list(range(1, iterations + 1))
    assert [metrics["policy_loss"] for metrics in reported] == list(range(1, iterations + 1))
    assert [metrics["episodes"] for metrics in reported] == [2 * k for k in range(1, iterations + 1)]
    assert all(metrics["return_mean"] == 2 for metrics in reported)
    assert one.finished and one.collectors[0].env.seeds == [11]  # type: ignore[attr-defined]


def test_the_seconds_are_those_of_all_iterations() -> None:
    one, reported = training(48), list[dict[str, float]]()
    one.run(reported.append)
    seconds = [metrics["seconds"] for metrics in reported]
    took = [metrics["collect_s"] + metrics["update_s"] for metrics in reported]
    assert seconds == pytest.approx([sum(took[: k + 1]) for k in range(4)])
    assert [m["env_steps_per_s"] for m in reported] == pytest.approx([12 / each for each in took])


def test_a_stop_ends_the_run_after_the_iteration() -> None:
    one, reported = training(1_000_000), list[dict[str, float]]()
    one.run(reported.append, stop=lambda: len(reported) == 2)
    assert one.iteration == 2 and not one.finished


def test_progress_is_continued() -> None:
    one, other = training(24), training(24)
    one.iterate()
    other.set_progress(one.progress())
    assert (other.iteration, other.env_steps, other.seconds) == (1, 12, one.seconds)
    other.iterate()
    assert other.finished


def test_means_by_hand() -> None:
    """Weighted by rows: (1 · 3 + 5 · 1) / 4 = 2; extremes are those of all."""
    means = Means()
    means.add({"loss": torch.tensor(1.0), "ratio_min": torch.tensor(0.5), "ratio_max": torch.tensor(1.5)}, 3)
    means.add({"loss": torch.tensor(5.0), "ratio_min": torch.tensor(0.7), "ratio_max": torch.tensor(1.2)}, 1)
    means.add({"late": torch.tensor(4.0)}, 2)
    assert means.values() == pytest.approx({"loss": 2, "ratio_min": 0.5, "ratio_max": 1.5, "late": 4})
