"""Exactly the episodes asked for, unbiased by their length, and intervals that cover what they promise."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed
from flowrl.evaluation.episodes import Evaluation, evaluate, summary
from flowrl.evaluation.statistics import bootstrap, deviation, interquartile_mean, mean, standard_error, wilson
from flowrl.experiments.suite.trial import EvalSummary


@dataclass(frozen=True)
class Step:
    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    success: Tensor
    measures: dict[str, Tensor] = field(default_factory=dict)
    variant: Tensor | None = None


@dataclass(frozen=True)
class Episode:
    rewards: Sequence[float]
    truncated: bool = False
    success: float = math.nan
    variant: int = 0


LONG_WIN = Episode([0, 0, 0, 0, 1], success=1)
SHORT_LOSS = Episode([0], success=0, variant=1)
VARIANTS = ("walk", "turn")


@dataclass
class Scripted:
    """Slots that play the episodes of their scripts in turn, beginning again after the last one."""

    scripts: Sequence[Sequence[Episode]]
    seeds: list[int | None] = field(default_factory=list)
    variants = VARIANTS

    @property
    def count(self) -> int:
        return len(self.scripts)

    def reset(self, seed: int | None) -> Tensor:
        self.seeds.append(seed)
        self.turn, self.clock = [0] * self.count, [0] * self.count
        return torch.zeros(self.count, 1)

    def step(self, action: Tensor) -> Step:
        reward = torch.zeros(self.count)
        success, variant = torch.full((2, self.count), math.nan)
        terminated, truncated = (torch.zeros(self.count, dtype=torch.bool) for _ in range(2))
        for slot, script in enumerate(self.scripts):
            episode = script[self.turn[slot] % len(script)]
            reward[slot] = episode.rewards[self.clock[slot]]
            self.clock[slot] += 1
            if self.clock[slot] == len(episode.rewards):
                truncated[slot], terminated[slot] = episode.truncated, not episode.truncated
                success[slot] = episode.success
                variant[slot] = episode.variant
                self.turn[slot] += 1
                self.clock[slot] = 0
        measures = {"twice": torch.where(terminated | truncated, 2 * reward, math.nan)}
        return Step(torch.zeros(self.count, 1), reward, terminated, truncated, success, measures, variant)


@dataclass
class Walk:
    """From 0, one random step of ±1 each turn: right wins at +3, left loses at -1, so losses are short.

    A fair walk leaves -1..3 on the right with probability 1/4 (gambler's ruin: 1 step of 4).
    """

    count: int
    variants = ()

    def reset(self, seed: int | None) -> Tensor:
        self.random = np.random.default_rng(seed)
        self.place = np.zeros(self.count)
        return self._obs()

    def step(self, action: Tensor) -> Step:
        self.place += self.random.choice([-1, 1], self.count)
        won, lost = self.place == 3, self.place == -1
        ended = won | lost
        self.place[ended] = 0
        success = np.where(ended, won, np.nan)
        tensors = (torch.as_tensor(x) for x in (won.astype(np.float32), ended, np.zeros_like(ended), success))
        return Step(self._obs(), *tensors)

    def _obs(self) -> Tensor:
        return torch.as_tensor(self.place, dtype=torch.float32)[:, None]


def idle(obs: Tensor) -> Tensor:
    return torch.zeros(len(obs), 1)


def first_to_end(simulation: Scripted | Walk, episodes: int, seed: int) -> float:
    """The mistake: the mean return of the first episodes to end, whichever slot they come from."""
    simulation.reset(seed)
    total, returns = torch.zeros(simulation.count), []
    while len(returns) < episodes:
        step = simulation.step(torch.zeros(simulation.count, 1))
        total += step.reward
        ended = step.terminated | step.truncated
        returns += total[ended].tolist()
        total[ended] = 0
    return float(np.mean(returns[:episodes]))


# --- which episodes count -----------------------------------------------------------------------------------


def test_every_slot_plays_its_share_however_short_the_others_are() -> None:
    # Slot 0 wins in 5 steps each time, slot 1 loses in 1. Two episodes of each: mean (1+0+1+0)/4.
    # The first four to end are all slot 1's: mean 0.
    scripts = [[LONG_WIN], [SHORT_LOSS]]
    evaluation = evaluate(idle, Scripted(scripts), episodes=4, seed=0)
    assert evaluation.returns.tolist() == [1, 0, 1, 0]
    assert evaluation.lengths.tolist() == [5, 1, 5, 1]
    assert evaluation.successes.tolist() == [1, 0, 1, 0]
    assert first_to_end(Scripted(scripts), episodes=4, seed=0) == 0


def test_unbiased_over_all_equally_likely_outcomes() -> None:
    # A fair coin decides each episode: a win lasts 5 steps, a loss 1. Over all 2^6 equally likely outcomes
    # of 2 slots x 3 episodes the mean of an unbiased estimate of the win rate is exactly 1/2.
    fair, biased = [], []
    for coins in itertools.product([LONG_WIN, SHORT_LOSS], repeat=6):
        scripts = [coins[:3], coins[3:]]
        fair.append(evaluate(idle, Scripted(scripts), episodes=3, seed=0).returns.mean())
        biased.append(first_to_end(Scripted(scripts), episodes=3, seed=0))
    assert np.mean(fair) == pytest.approx(1 / 2, abs=1e-12)
    assert np.mean(biased) < 0.4


def test_unbiased_on_a_random_walk_whose_losses_are_short() -> None:
    # 4000 episodes: standard error √(1/4 x 3/4 / 4000) = 0.0068; four of them on each side.
    evaluation = evaluate(idle, Walk(400), episodes=4000, seed=1)
    assert abs(evaluation.returns.mean() - 1 / 4) < 4 * 0.0068
    # The first 400 to end of 400 slots are mostly losses.
    assert first_to_end(Walk(400), episodes=400, seed=1) < 1 / 4 - 4 * 0.0068


@pytest.mark.parametrize("episodes", [1, 2, 3, 4, 5, 7, 9])
def test_exactly_the_episodes_asked_for(episodes: int) -> None:
    # Episode k of slot i has return 10 i + k, and index 3 k + i: the first slots play one more.
    scripts = [[Episode([10 * slot + k]) for k in range(5)] for slot in range(3)]
    evaluation = evaluate(idle, Scripted(scripts), episodes=episodes, seed=0)
    expected = [10 * slot + k for k in range(5) for slot in range(3)][:episodes]
    assert evaluation.returns.tolist() == expected
    assert evaluation.lengths.tolist() == [1] * episodes


def test_truncated_episode_counts_and_return_is_the_plain_sum() -> None:
    scripts = [[Episode([1, 2, 4], truncated=True)], [Episode([0.5, -1], success=1)]]
    evaluation = evaluate(idle, Scripted(scripts), episodes=2, seed=0)
    assert evaluation.returns.tolist() == [7, -0.5]
    assert evaluation.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(evaluation.successes, [math.nan, 1])


def test_same_seed_same_episodes() -> None:
    first, again, other = (evaluate(idle, Walk(7), episodes=30, seed=seed) for seed in (3, 3, 4))
    assert first.returns.tolist() == again.returns.tolist()
    assert first.lengths.tolist() == again.lengths.tolist()
    assert first.lengths.tolist() != other.lengths.tolist()


def test_seed_reaches_the_simulation_and_every_action_is_counted() -> None:
    simulation, seen = Scripted([[LONG_WIN], [SHORT_LOSS]]), []

    def act(obs: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(obs))
        return idle(obs)

    evaluation = evaluate(act, simulation, episodes=3, seed=11)
    assert simulation.seeds == [11]
    assert seen == [2] * 10  # slot 0's two wins take ten steps; slot 1 goes on being stepped
    assert evaluation.actions == 20
    assert evaluation.act_seconds > 0
    assert evaluation.action_us == pytest.approx(1e6 * evaluation.act_seconds / 20)


def test_endless_episode_is_an_error_of_the_environment() -> None:
    scripts = [[SHORT_LOSS], [Episode([0] * 1000)]]
    with pytest.raises(EnvironmentFailed, match=r"environment 1 .*50 steps.*max_episode_steps"):
        evaluate(idle, Scripted(scripts), episodes=4, seed=0, longest=50)
    # the endless slot has no share of a single episode
    assert len(evaluate(idle, Scripted(scripts), episodes=1, seed=0, longest=50).returns) == 1


def test_no_episodes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(idle, Scripted([[SHORT_LOSS]]), episodes=0, seed=0)


# --- summary ------------------------------------------------------------------------------------------------


def evaluation_of(
    returns: Sequence[float],
    successes: Sequence[float] | None = None,
    measures: dict[str, Sequence[float]] | None = None,
) -> Evaluation:
    n = len(returns)
    unknown = np.full(n, math.nan)
    return Evaluation(
        np.array(returns, dtype=float),
        np.arange(1, n + 1),
        unknown if successes is None else np.array(successes, dtype=float),
        {} if measures is None else {name: np.array(values) for name, values in measures.items()},
        variants=np.full(n, ""),
        actions=100,
        act_seconds=0.025,
    )


def test_summary_has_the_promised_keys_and_hand_worked_numbers() -> None:
    result = summary(evaluation_of([1, 2, 3, 10], [1, 0, 1, 1]), sampler="heun", steps=8, nfe=16, noise="random")
    promised = "return_mean return_iqm return_ci95 success_rate length_mean episodes"
    assert {*promised.split(), "sampler", "steps", "nfe", "noise", "action_us"} <= result.keys()
    assert result["return_mean"] == 4  # 16/4
    assert result["return_iqm"] == 2.5  # (2+3)/2
    assert result["return_std"] == pytest.approx(math.sqrt(50 / 3))  # 9+4+1+36 = 50
    assert result["return_stderr"] == pytest.approx(math.sqrt(50 / 3) / 2)
    assert result["success_rate"] == 0.75
    assert result["length_mean"] == 2.5
    assert result["episodes"] == 4
    assert result["action_us"] == pytest.approx(250)
    assert (result["sampler"], result["steps"], result["nfe"], result["noise"]) == ("heun", 8, 16, "random")
    assert result["return_ci95"] == list(bootstrap([1, 2, 3, 10]))
    assert result["return_iqm_ci95"] == list(bootstrap([1, 2, 3, 10], interquartile_mean))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_what_else_the_environment_measures_is_kept_by_episode_and_averaged() -> None:
    """`Scripted` reports twice the last reward of every episode: 2 for a win, 0 for a loss."""
    result = evaluate(idle, Scripted([[LONG_WIN, SHORT_LOSS], [SHORT_LOSS]]), episodes=4, seed=0)
    assert result.measures["twice"].tolist() == [2, 0, 0, 0]
    evaluation = evaluation_of([0, 0, 0], successes=[1, 0, 0], measures={"alive_s": [1.0, 2.0, math.nan]})
    row = summary(evaluation, sampler=None, steps=None, nfe=None, noise=None)
    assert row["alive_s"] == 1.5
    assert row.keys() == {*EvalSummary.model_fields, "alive_s"}
    assert EvalSummary(**row).measures == {"success_rate": row["success_rate"], "alive_s": row["alive_s"]}


def test_episodes_are_grouped_by_variant() -> None:
    result = evaluate(idle, Scripted([[LONG_WIN, SHORT_LOSS], [SHORT_LOSS]]), episodes=4, seed=0)
    assert result.variants.tolist() == ["walk", "turn", "turn", "turn"]
    groups = dict(result.by_variant())
    assert list(groups) == ["walk", "turn"]
    assert groups["walk"].returns.tolist() == [1] and groups["turn"].returns.tolist() == [0, 0, 0]
    assert groups["walk"].lengths.tolist() == [5] and groups["turn"].successes.tolist() == [0, 0, 0]
    assert groups["walk"].measures["twice"].tolist() == [2]
    assert groups["turn"].action_us == result.action_us
    assert [variant for variant, _ in evaluate(idle, Walk(2), episodes=4, seed=0).by_variant()] == [""]


def test_summary_of_one_episode_has_no_intervals() -> None:
    result = summary(evaluation_of([5]), sampler="dopri5", steps=None, nfe=None, noise="zero")
    assert result["return_mean"] == result["return_iqm"] == 5
    assert result["return_ci95"] == result["return_iqm_ci95"] == [None, None]
    assert result["return_stderr"] is None
    assert result["success_rate"] is None
    assert result["success_ci95"] is None
    json.dumps(result, allow_nan=False)


def test_an_episode_without_a_report_counts_as_a_failure_where_others_report() -> None:
    result = summary(
        evaluation_of([0, 0, 0, 0], [1, math.nan, math.nan, 1]), sampler="euler", steps=1, nfe=1, noise="fixed"
    )
    assert result["success_rate"] == 0.5


# --- statistics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], 7),
        ([9, 1], 5),  # ⌊2/4⌋ = 0 cut: the mean
        ([1, 2, 6], 3),
        ([100, 2, 4, -50], 3),  # one cut at each end: (2+4)/2
        ([5, 1, 2, 3, 400], 10 / 3),  # ⌊5/4⌋ = 1 at each end: (2+3+5)/3
        ([8, 7, 6, 5, 4, 3, 2, 1], 4.5),  # two cut at each end: (3+4+5+6)/4
    ],
)
def test_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-15)


@pytest.mark.slow
def test_interquartile_mean_is_scipys_trimmed_mean() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    for n in range(1, 40):
        x = generator.standard_cauchy((3, n))
        np.testing.assert_allclose(interquartile_mean(x), stats.trim_mean(x, 0.25, axis=-1), rtol=1e-12)


def test_mean_deviation_and_standard_error_by_hand() -> None:
    x = [2, 4, 4, 4, 5, 5, 7, 9]  # mean 5, squares 9+1+1+1+0+0+4+16 = 32
    assert mean(x) == 5
    assert deviation(x) == pytest.approx(math.sqrt(32 / 7))
    assert standard_error(x) == pytest.approx(math.sqrt(32 / 7 / 8))
    assert math.isnan(deviation([3])) and math.isnan(standard_error([3]))


def test_bootstrap_of_two_values_by_hand() -> None:
    # Draws of {0, 1} have mean 0, 1/2, 1 with probability 1/4, 1/2, 1/4: at level 95 % both ends lie in the
    # outer quarters, at level 40 % (quantiles 0.3 and 0.7) both lie in the middle.
    assert bootstrap([0, 1]) == (0, 1)
    assert bootstrap([0, 1], level=0.4) == (0.5, 0.5)
    assert bootstrap([3, 3, 3]) == (3, 3)
    assert all(math.isnan(end) for end in bootstrap([3]))
    with pytest.raises(ValueError, match="one-dimensional"):
        bootstrap([[1, 2], [3, 4]])


def test_bootstrap_of_the_mean_has_the_textbook_width() -> None:
    # The mean of a draw has standard deviation √(Σ (xᵢ - x̄)²) / n, and for many values it is normal: the
    # interval is x̄ ± 1.96 of it. The ends of 10 000 draws scatter by 2.7 % of it (1/φ(1.96) √(pq/10000)).
    x = np.random.default_rng(5).normal(size=1000)
    low, high = bootstrap(x, seed=2)
    sigma = x.std() / math.sqrt(1000)
    assert abs(low - (x.mean() - 1.96 * sigma)) < 4 * 0.027 * sigma
    assert abs(high - (x.mean() + 1.96 * sigma)) < 4 * 0.027 * sigma


def test_bootstrap_does_not_depend_on_the_chunks_it_works_in(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(5).normal(size=40)
    interval = bootstrap(x, resamples=999)
    assert interval == bootstrap(x, resamples=999)
    assert interval != bootstrap(x, resamples=999, seed=1)
    monkeypatch.setattr("flowrl.evaluation.statistics.CHUNK", 7 * 40)  # 142 chunks of seven draws, and one of five
    assert interval == bootstrap(x, resamples=999)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_bootstrap_covers_the_truth_as_often_as_it_says(statistic: Callable[..., np.ndarray]) -> None:
    # 40 normal values: the percentile interval is about x̄ ± 1.96 √(39/40) s/√40, which Student's t with 39
    # degrees of freedom puts at 94 % (the interquartile mean a little lower). 400 experiments scatter by
    # 1.2 %.
    generator = np.random.default_rng(0)
    hits = 0
    for experiment in range(400):
        low, high = bootstrap(generator.normal(3, 2, size=40), statistic, resamples=500, seed=experiment)
        hits += low <= 3 <= high
    assert 0.94 - 4 * 0.012 < hits / 400 < 0.94 + 4 * 0.012


@pytest.mark.slow
@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_bootstrap_agrees_with_scipys(statistic: Callable[..., np.ndarray]) -> None:
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(8).exponential(size=100)
    theirs = stats.bootstrap(
        (x,), partial(_along_axis, statistic), method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    # Each end scatters by 2.7 % of the statistic's deviation (see above), their difference by √2 of that.
    tolerance = 4 * math.sqrt(2) * 0.027 * (theirs.high - theirs.low) / (2 * 1.96)
    low, high = bootstrap(x, statistic)
    assert abs(low - theirs.low) < tolerance
    assert abs(high - theirs.high) < tolerance


def _along_axis(statistic: Callable[..., np.ndarray], x: np.ndarray, axis: int) -> np.ndarray:
    return statistic(np.moveaxis(x, axis, -1))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # Newcombe (1998): z² = 3.8415, (0.8 + 0.19207 ± 1.96 √(0.016 + 0.0096)) / 1.38415
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I, method 3
        (0, 10, 0.0, 0.2775),  # z² / (10 + z²) = 3.8415/13.8415
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_by_hand(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_wilson_without_trials_is_unknown() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))
