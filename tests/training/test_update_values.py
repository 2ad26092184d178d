"""One update per algorithm, number by number: two epochs of one minibatch each, on networks of one neuron.

The rollout has a termination, a truncation and rewards that are scaled; returns and advantages are worked out by hand
below. Every hidden value is positive, so a network of one relu neuron is w2 (w1 · inputs + b1) + b2, and the losses,
their gradients and Adam are written out again here in plain Python, from the papers' formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowrl.config.recipe import Recipe, apply
from flowrl.config.schema import load
from flowrl.experiments.build import make_actor, make_ratio_estimator
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.training.learner import Learner
from flowrl.training.ratio import RatioEstimator, Record
from flowrl.training.rollout import Rollout

# Two environments (columns), three steps (rows). The first terminates in its second step, so that the value of its
# successor, 9, must not count. The second is truncated in its first step, where its true successor is 5.
OBS = [[1.0, 3.0], [2.0, 1.0], [4.0, 2.0]]
SUCCESSORS = [[2.0, 5.0], [9.0, 2.0], [3.0, 6.0]]
REWARDS = [[1.0, 0.5], [2.0, -1.0], [3.0, 2.0]]
ACTIONS = [[0.5, -0.4], [1.5, 0.3], [-0.2, 0.9]]
TERMINATED = [[False, False], [True, False], [False, False]]
TRUNCATED = [[False, True], [False, False], [False, False]]
REWARD_SCALE, GAMMA, LAMBDA = 2.0, 0.5, 0.5
# With V(s) = s:  δ = 2 r + 0.5 V(successor) - V(s)
#   environment 1:  2·1 + 0.5·2 - 1 = 2       2·2 + 0 - 2 = 2 (ended)      2·3 + 0.5·3 - 4 = 3.5
#   environment 2:  2·0.5 + 0.5·5 - 3 = 0.5   2·(-1) + 0.5·2 - 1 = -2      2·2 + 0.5·6 - 2 = 5
# A = δ + 0.25 A', where no episode ends:
#   environment 1:  2 + 0.25·2 = 2.5          2                            3.5
#   environment 2:  0.5 (cut)                 -2 + 0.25·5 = -0.75          5
ADVANTAGES = [[2.5, 0.5], [2.0, -0.75], [3.5, 5.0]]
# returns = A + V
RETURNS = [[3.5, 3.5], [4.0, 0.25], [7.5, 7.0]]
# mean 12.75 / 6 = 2.125; deviations squared: 0.140625 + 0.015625 + 1.890625 + 2.640625 + 8.265625 + 8.265625
MEAN, STD = 2.125, math.sqrt(21.21875 / 6)

LEARNING_RATE, CRITIC_RATE = 0.05, 0.02
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
VALUE_COEFFICIENT, VALUE_CLIP = 0.5, 0.03

SETTINGS = (
    f"learner.reward_scale={REWARD_SCALE}",
    f"learner.gamma={GAMMA}",
    f"learner.gae_lambda={LAMBDA}",
    "learner.normalise_observations=false",
    "learner.epochs=2",
    "learner.minibatches=1",
    f"learner.learning_rate={LEARNING_RATE}",
    f"learner.critic_learning_rate={CRITIC_RATE}",
    "learner.max_grad_norm=null",
    f"learner.value_coefficient={VALUE_COEFFICIENT}",
    f"learner.value_clip={VALUE_CLIP}",
    "learner.critic={hidden: [1], activation: relu}",
    "policy.hidden=[1]",
    "policy.activation=relu",
    "learner.ema_decay=null",
)


def flat(rows: list[list[float]]) -> list[float]:
    return [number for row in rows for number in row]


def rollout() -> Rollout:
    return Rollout(
        obs=torch.tensor(OBS).unsqueeze(-1),
        actions=torch.tensor(ACTIONS).unsqueeze(-1),
        rewards=torch.tensor(REWARDS),
        successors=torch.tensor(SUCCESSORS).unsqueeze(-1),
        terminated=torch.tensor(TERMINATED),
        truncated=torch.tensor(TRUNCATED),
    )


def learner(algorithm: str, actor_weights: dict[str, list[float]], *settings: str) -> Learner:
    """A learner of one neuron per network, with the given actor and the critic V(s) = s."""
    values = {"algorithm": algorithm, "total_steps": 1000, "env": {"id": "Pendulum-v1"}}
    config = load(apply(Recipe("test", values), [*SETTINGS, *settings]))
    actor = make_actor(config, 1, 1)
    for name, parameter in actor.named_parameters():
        parameter.data.copy_(torch.tensor(actor_weights[name]).reshape(parameter.shape))
    critic = Critic(1, config.learner.critic)
    for parameter, value in zip(critic.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
        parameter.data.fill_(value)
    normaliser = Normaliser(1, enabled=False)
    return Learner(make_ratio_estimator(actor, config), critic, normaliser, config.learner, 10, seed=0)


class Adam:
    """θ ← θ - rate · m̂ / (√v̂ + 1e-8), with m̂ and v̂ the bias-corrected moments (Kingma & Ba 2015)."""

    def __init__(self, rate: float, parameters: list[float]) -> None:
        self.rate, self.parameters, self.steps = rate, parameters, 0
        self.m, self.v = [0.0] * len(parameters), [0.0] * len(parameters)

    def step(self, gradient: list[float]) -> None:
        self.steps += 1
        for i, g in enumerate(gradient):
            self.m[i] = BETA1 * self.m[i] + (1 - BETA1) * g
            self.v[i] = BETA2 * self.v[i] + (1 - BETA2) * g * g
            m, v = self.m[i] / (1 - BETA1**self.steps), self.v[i] / (1 - BETA2**self.steps)
            self.parameters[i] -= self.rate * m / (math.sqrt(v) + EPSILON)


def expected_critic() -> tuple[list[float], float, float]:
    """Weights (w1, b1, w2, b2) after two steps on mean max((V - R)², (V_old + clip(V - V_old) - R)²), and the
    value loss and the gradient's norm of the second epoch."""
    adam = Adam(CRITIC_RATE, [1.0, 0.0, 1.0, 0.0])
    loss, gradient = math.nan, [math.nan]
    for _ in range(2):
        w1, b1, w2, b2 = adam.parameters
        gradient, loss = [0.0] * 4, 0.0
        for s, target in zip(flat(OBS), flat(RETURNS), strict=True):
            hidden = w1 * s + b1
            value = w2 * hidden + b2
            moved = s + min(max(value - s, -VALUE_CLIP), VALUE_CLIP)  # V_old = s
            free, clipped = (value - target) ** 2, (moved - target) ** 2
            loss += max(free, clipped) / 6
            # The clipped error has a slope only where it does not clip, and there the two are equal.
            slope = 2 * (value - target) if free >= clipped or moved == value else 0.0
            for i, by in enumerate((w2 * s, w2, hidden, 1.0)):
                gradient[i] += VALUE_COEFFICIENT * slope * by / 6
        adam.step(gradient)
    return adam.parameters, loss, math.hypot(*gradient)


def ppo_slope(log_ratio: float, advantage: float, clip: float) -> tuple[float, float]:
    """min(r A, clip(r) A) and its derivative by log r (Schulman et al. 2017, eq. 7)."""
    r = math.exp(log_ratio)
    inside = min(max(r, 1 - clip), 1 + clip)
    if r * advantage <= inside * advantage:
        return r * advantage, r * advantage
    return inside * advantage, 0.0


def aspo_slope(log_ratio: float, advantage: float, clip: float) -> tuple[float, float]:
    """PPO-clip where A ≥ 0, r A - |A| (r - 1)² / 2ε where A < 0 (arXiv 2602.02481; SPO, arXiv 2401.16025)."""
    if advantage >= 0:
        return ppo_slope(log_ratio, advantage, clip)
    r = math.exp(log_ratio)
    value = r * advantage - abs(advantage) / (2 * clip) * (r - 1) ** 2
    return value, r * advantage - abs(advantage) / clip * (r - 1) * r


def numbers(parameters: list[Tensor]) -> list[float]:
    return [number for parameter in parameters for number in parameter.flatten().tolist()]


def check_common(one: Learner, metrics: dict[str, float]) -> None:
    """The critic, and what the metrics say of it."""
    critic, value_loss, norm = expected_critic()
    assert numbers(list(one.critic.parameters())) == pytest.approx(critic, abs=2e-6)
    assert metrics["value_loss"] == pytest.approx(value_loss, rel=1e-5)
    assert metrics["critic_grad_norm"] == pytest.approx(norm, rel=1e-4)
    # 1 - Var(R - V) / Var(R): R - V = A, so 1 - (21.21875 / 6) / Var(R)
    returns = flat(RETURNS)
    mean = sum(returns) / 6
    variance = sum((r - mean) ** 2 for r in returns) / 6
    assert metrics["explained_variance"] == pytest.approx(1 - STD**2 / variance, rel=1e-5)


def test_returns_and_advantages_are_those_worked_out_by_hand() -> None:
    one = learner("ppo", GAUSSIAN, "learner.normalise_advantages=no")
    data = rollout()
    batch = one._prepare([data], [[[torch.arange(6)]]])[0]
    assert batch.advantages.tolist() == pytest.approx(flat(ADVANTAGES), abs=1e-6)
    assert batch.returns.tolist() == pytest.approx(flat(RETURNS), abs=1e-6)
    assert batch.values.tolist() == pytest.approx(flat(OBS), abs=1e-6)
    scaled = learner("ppo", GAUSSIAN)._prepare([data], [[[torch.arange(6)]]])[0]
    assert scaled.advantages.tolist() == pytest.approx([(a - MEAN) / STD for a in flat(ADVANTAGES)], abs=1e-6)


# ------------------------------------------------------------------------------------------------------- PPO

SPREAD = math.log(math.expm1(0.7 - 1e-3))  # std = softplus(spread) + 0.001 = 0.7
GAUSSIAN = {
    "layers.0.weight": [0.3],
    "layers.0.bias": [0.2],
    "layers.1.weight": [0.5],
    "layers.1.bias": [-0.1],
    "spread": [SPREAD],
}
PPO_CLIP, ENTROPY = 0.2, 0.03


def test_ppo() -> None:
    one = learner("ppo", GAUSSIAN, f"learner.clip={PPO_CLIP}", f"learner.entropy_coefficient={ENTROPY}")
    metrics = one.update(rollout())

    advantages = [(a - MEAN) / STD for a in flat(ADVANTAGES)]
    adam = Adam(LEARNING_RATE, [0.3, 0.2, 0.5, -0.1, SPREAD])
    old: list[float] = []
    for epoch in range(2):
        w1, b1, w2, b2, spread = adam.parameters
        std = math.log1p(math.exp(spread)) + 1e-3
        by_spread = 1 / (1 + math.exp(-spread))  # d std / d spread
        new, surrogate, ratios, gradient = [], 0.0, [], [0.0] * 5
        for row, (s, a, advantage) in enumerate(zip(flat(OBS), flat(ACTIONS), advantages, strict=True)):
            hidden = w1 * s + b1
            z = (a - (w2 * hidden + b2)) / std
            new.append(-0.5 * z * z - math.log(std) - 0.5 * math.log(2 * math.pi))
            log_ratio = new[row] - (old[row] if epoch else new[row])
            ratios.append(math.exp(log_ratio))
            value, slope = ppo_slope(log_ratio, advantage, PPO_CLIP)
            surrogate += value / 6
            # d log π / d mean = z / std;  d log π / d std = (z² - 1) / std
            for i, by in enumerate((w2 * s, w2, hidden, 1.0)):
                gradient[i] -= slope * z / std * by / 6
            gradient[4] -= slope * (z * z - 1) / std * by_spread / 6
        gradient[4] -= ENTROPY / std * by_spread  # of the bonus 0.03 · ln σ
        if epoch == 0:
            old = new
        else:
            entropy = math.log(std) + 0.5 * math.log(2 * math.pi * math.e)
            kl = sum(r - 1 - math.log(r) for r in ratios) / 6
            clipped = sum(abs(r - 1) > PPO_CLIP for r in ratios) / 6
        adam.step(gradient)

    parameters = dict(one.actor.named_parameters())
    assert numbers([parameters[name] for name in GAUSSIAN]) == pytest.approx(adam.parameters, abs=5e-6)
    assert metrics["policy_loss"] == pytest.approx(-surrogate, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert metrics["actor_grad_norm"] == pytest.approx(math.hypot(*gradient), rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl, rel=1e-3)
    assert 0 < clipped < 1, "the clip must have acted on some rows and not on others"
    assert metrics["clipped_share"] == pytest.approx(clipped, abs=1e-6)
    assert metrics["ratio_max"] == pytest.approx(max(ratios), rel=1e-5)
    assert metrics["ratio_min"] == pytest.approx(min(ratios), rel=1e-5)
    check_common(one, metrics)


# ------------------------------------------------------------------------------------------------------ flows

FLOW = {
    "layers.0.weight": [0.3, 0.1, 0.05, 0.02],  # observation, x, cos t, sin t
    "layers.0.bias": [2.0],
    "layers.1.weight": [0.5],
    "layers.1.bias": [-1.0],
}
SCALE = 0.25


class Recording:
    """A ratio estimator that keeps the probes which it drew."""

    def __init__(self, estimator: RatioEstimator) -> None:
        self._estimator = estimator
        self.actor = estimator.actor
        self.compare = estimator.compare
        self.generation = estimator.generation
        self.drawn: Record = {}

    def record(
        self, obs: Tensor, actions: Tensor, given: Record, chunks: list[Tensor], draws: torch.Generator
    ) -> Record:
        self.drawn = self._estimator.record(obs, actions, given, chunks, draws)
        return self.drawn


def check_flow(
    algorithm: str,
    clip: float,
    slope_of: Callable[[float, float, float], tuple[float, float]],
    *settings: str,
    averaged: bool,
    limit: float = math.inf,
    limit_negative: float = math.inf,
) -> None:
    """An update of `algorithm` against the same in plain Python, at the probes that the learner drew."""
    one = learner(
        algorithm, FLOW, "policy.time_features=2", "learner.probes.count=2", f"learner.clip={clip}", *settings
    )
    recording = Recording(one.estimator)
    one.estimator = recording
    metrics = one.update(rollout())
    times, noise = recording.drawn["times"].squeeze(-1).tolist(), recording.drawn["noise"].squeeze(-1).tolist()

    advantages = [(a - MEAN) / STD for a in flat(ADVANTAGES)]
    adam = Adam(LEARNING_RATE, [0.3, 0.1, 0.05, 0.02, 2.0, 0.5, -1.0])
    old: list[list[float]] = []
    limited = [0, 0]
    for epoch in range(2):
        wo, wx, wc, ws, b1, w2, b2 = adam.parameters
        surrogate, ratios, gradient, losses = 0.0, [], [0.0] * 7, []
        for row, (s, a, advantage) in enumerate(zip(flat(OBS), flat(ACTIONS), advantages, strict=True)):
            row_losses, slopes = [], []
            for t, eps in zip(times[row], noise[row], strict=True):
                x = t * a + (1 - t) * eps  # eq. 5 of FPO: the straight path
                hidden = wo * s + wx * x + wc * math.cos(t) + ws * math.sin(t) + b1
                assert hidden > 0
                error = SCALE * (w2 * hidden + b2) - (a - eps)
                row_losses.append(error * error)
                inputs = (w2 * s, w2 * x, w2 * math.cos(t), w2 * math.sin(t), w2, hidden, 1.0)
                slopes.append([2 * error * SCALE * by for by in inputs])
            losses.append(row_losses)
            before = [min(loss, limit) for loss in (old[row] if epoch else row_losses)]
            bounds = [min(limit, limit_negative) if advantage < 0 else limit for _ in row_losses]
            after = [min(loss, bound) for loss, bound in zip(row_losses, bounds, strict=True)]
            limited[advantage < 0] += sum(a < b for a, b in zip(after, row_losses, strict=True))
            differences = [b - n for b, n in zip(before, after, strict=True)]
            log_ratios = [sum(differences) / 2] if averaged else differences
            for number, log_ratio in enumerate(log_ratios):
                ratios.append(math.exp(log_ratio))
                value, slope = slope_of(log_ratio, advantage, clip)
                surrogate += value / (6 * len(log_ratios))
                # d log r / d θ = - d loss / d θ, also where the limit holds the value
                for probe in (0, 1) if averaged else (number,):
                    for i, by in enumerate(slopes[probe]):
                        gradient[i] += slope * by / (12 if averaged else 6 * len(log_ratios))
        if epoch == 0:
            old = losses
        adam.step(gradient)

    parameters = dict(one.actor.named_parameters())
    assert numbers([parameters[name] for name in FLOW]) == pytest.approx(adam.parameters, abs=1e-5)
    assert metrics["policy_loss"] == pytest.approx(-surrogate, abs=2e-6)
    assert metrics["cfm_loss"] == pytest.approx(sum(map(sum, losses)) / 12, rel=1e-5)
    assert metrics["actor_grad_norm"] == pytest.approx(math.hypot(*gradient), rel=1e-4)
    assert metrics["ratio_max"] == pytest.approx(max(ratios), rel=1e-5)
    assert metrics["ratio_min"] == pytest.approx(min(ratios), rel=1e-5)
    clipped = sum(abs(r - 1) > clip for r in ratios) / len(ratios)
    assert 0 < clipped < 1, "the clip must have acted on some rows and not on others"
    assert metrics["clipped_share"] == pytest.approx(clipped, abs=1e-6)
    if limit < math.inf:
        assert min(limited) > 0, "both limits must have acted"
    check_common(one, metrics)


def test_fpo() -> None:
    check_flow("fpo", 0.1, ppo_slope, averaged=True)


def test_fpo_plus_plus() -> None:
    limits = ("learner.loss_limit=1.0", "learner.loss_limit_negative=0.2")
    check_flow("fpo++", 0.02, aspo_slope, *limits, averaged=False, limit=1.0, limit_negative=0.2)
