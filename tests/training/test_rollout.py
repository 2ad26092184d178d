"""What a rollout holds, and the statistics of the episodes that ended."""

from __future__ import annotations

import math

import torch

from flowrl.contracts.protocols import Step
from flowrl.training.rollout import Episodes, collect, report
from flowrl.training.shards import ALONE

NAN = math.nan


class Counting:
    """Two environments that count their steps, from 10 and 20; the first is restarted at 100 after its second step."""

    count, observation_size, action_size = 2, 1, 1

    def step(self, action: torch.Tensor) -> Step:
        self.time += 1
        ended = torch.tensor([self.time == 2, False])
        successor = torch.tensor([[10.0 + self.time], [20.0 + self.time]])
        obs = torch.where(ended[:, None], torch.tensor(100.0), successor)
        zero = torch.zeros(2, dtype=torch.bool)
        truncated = torch.tensor([False, self.time == 3])
        return Step(obs, action[:, 0] / 2, ended, truncated, successor, torch.where(ended, 1.0, NAN) + zero)

    time = 0


def test_a_rollout_by_hand() -> None:
    """The successor of an episode's last step is its true end, 12, not the observation of the restart, 100."""
    acted: list[list[float]] = []

    def act(obs: torch.Tensor) -> torch.Tensor:
        acted.append(obs.flatten().tolist())
        return obs * 2

    episodes = Episodes.starting(2)
    start = torch.tensor([[10.0], [20.0]])
    rollout, after = collect(act, Counting(), start, episodes, 3)  # type: ignore[arg-type]
    assert acted == [[10, 20], [11, 21], [100, 22]]
    assert rollout.obs.squeeze(-1).tolist() == acted
    assert rollout.actions.squeeze(-1).tolist() == [[20, 40], [22, 42], [200, 44]]
    assert rollout.rewards.tolist() == acted
    assert rollout.successors.squeeze(-1).tolist() == [[11, 21], [12, 22], [13, 23]]
    assert rollout.terminated.tolist() == [[False, False], [True, False], [False, False]]
    assert rollout.truncated.tolist() == [[False, False], [False, False], [False, True]]
    assert after.tolist() == [[13], [23]]
    assert report([episodes], ALONE) == {
        "episodes": 2,
        "return_mean": (21 + 63) / 2,
        "length_mean": 2.5,
        "success_rate": 1.0,
    }


def test_episodes_continue_from_their_state() -> None:
    episodes = Episodes.starting(2)
    episodes.counted = torch.tensor([True, False])
    episodes.add(torch.tensor([1.0, 2.0]), torch.tensor([False, False]), torch.tensor([NAN, NAN]))
    episodes.ended = 7
    other = Episodes.starting(2)
    other.load_state_dict(episodes.state_dict())
    assert other.returns.tolist() == [1, 2] and other.lengths.tolist() == [1, 1]
    assert other.counted.tolist() == [True, False] and other.ended == 7
    fresh = Episodes.starting(2)
    fresh.load_state_dict({"ended": 7})  # of an environment whose state was not saved
    assert fresh.returns.tolist() == [0, 0] and fresh.counted.tolist() == [True, True] and fresh.ended == 7


def test_means_over_the_episodes_that_ended_since_the_last_report() -> None:
    episodes = Episodes.starting(3)
    episodes.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([False, True, False]), torch.tensor([NAN, 1.0, NAN]))
    episodes.add(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]), torch.tensor([0.0, NAN, NAN]))
    assert report([episodes], ALONE) == {
        "episodes": 3,
        "return_mean": (2 + 2 + 6) / 3,
        "length_mean": 5 / 3,
        "success_rate": 0.5,
    }
    assert episodes.ended == 3
    assert report([episodes], ALONE) == {"episodes": 3}
    assert episodes.returns.tolist() == [0, 2, 0] and episodes.lengths.tolist() == [0, 1, 0]


def test_a_part_of_an_episode_is_not_counted() -> None:
    """A staggered first episode began in the middle; the one after it is complete."""
    episodes = Episodes.starting(2)
    episodes.counted = torch.tensor([True, False])
    both = torch.tensor([True, True])
    episodes.add(torch.tensor([10.0, 1.0]), both, torch.tensor([1.0, 0.0]))
    assert report([episodes], ALONE) == {"episodes": 1, "return_mean": 10, "length_mean": 1, "success_rate": 1}
    episodes.add(torch.tensor([10.0, 20.0]), both, torch.tensor([NAN, NAN]))
    assert report([episodes], ALONE) == {"episodes": 3, "return_mean": 15, "length_mean": 1}
    assert episodes.ended == 3
