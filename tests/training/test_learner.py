"""The update: first ratio exactly 1, same rollout same update, sampler-free, exact micro-batching."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch

from flowrl.config.recipe import Recipe, apply
from flowrl.config.schema import Config, load
from flowrl.contracts.errors import TrainingDiverged
from flowrl.experiments.build import make_actor, make_ratio_estimator
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.training.learner import Learner
from flowrl.training.rollout import Rollout
from flowrl.training.schedule import Schedule, ScheduleSettings
from tests.equality import same

ALGORITHMS = ["fpo", "fpo++", "ppo"]
OBS, ACTION = 5, 3


def config(algorithm: str, *overrides: str) -> Config:
    values = {"algorithm": algorithm, "total_steps": 1000, "env": {"id": "Pendulum-v1"}}
    return load(apply(Recipe("test", values), overrides))


def learner(settings: Config, seed: int = 0, total_updates: int = 10) -> Learner:
    torch.manual_seed(seed)
    actor = make_actor(settings, OBS, ACTION)
    critic = Critic(OBS, settings.learner.critic)
    estimator = make_ratio_estimator(actor, settings)
    normaliser = Normaliser(OBS, enabled=settings.learner.normalise_observations)
    return Learner(estimator, critic, normaliser, settings.learner, total_updates, seed)


def rollout(seed: int = 0, steps: int = 16, envs: int = 8) -> Rollout:
    g = torch.Generator().manual_seed(seed)
    shape = (steps, envs)
    return Rollout(
        obs=3 + 2 * torch.randn(*shape, OBS, generator=g),
        actions=torch.randn(*shape, ACTION, generator=g),
        rewards=torch.randn(shape, generator=g),
        successors=3 + 2 * torch.randn(*shape, OBS, generator=g),
        terminated=torch.rand(shape, generator=g) < 0.05,
        truncated=torch.rand(shape, generator=g) < 0.05,
    )


def weights(of: Learner) -> dict[str, Any]:
    parts = {"actor": of.actor, "critic": of.critic, "normaliser": of.normaliser}
    return {f"{p}.{name}": w for p, part in parts.items() for name, w in part.state_dict().items()}


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        *((each, ()) for each in ALGORITHMS),
        *(("fpo", (f"policy.base={base}",)) for base in ("normal", "mixture")),
        *(("fpo", (f"policy.base={base}", "learner.loss.reduction=by_std")) for base in ("normal", "mixture")),
    ],
)
def test_the_first_ratio_of_every_update_is_exactly_one(algorithm: str, policy: tuple[str, ...]) -> None:
    """With observation normalisation on, after updates that moved the statistics: bit for bit."""
    whole = ["learner.epochs=1", "learner.minibatches=1", "learner.microbatch=50"]
    one = learner(config(algorithm, *whole, *policy))
    assert one.settings.normalise_observations
    for seed in range(3):
        metrics = one.update(rollout(seed))
        assert metrics["ratio_min"] == metrics["ratio_max"] == 1.0
        assert metrics["clipped_share"] == 0
    several = learner(config(algorithm, "learner.epochs=1", "learner.minibatches=4", *policy))
    several.update(rollout(3))
    assert several.update(rollout(4))["ratio_max"] != 1.0  # later minibatches do differ


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_ratio_is_one_in_pieces_of_any_size(algorithm: str) -> None:
    """Products of one row and of many round differently: the old policy is computed in the pieces of the new one."""
    settings = ["learner.epochs=1", "learner.minibatches=1", "learner.microbatch=1", "learner.probes.count=1"]
    one = learner(config(algorithm, *settings, "policy.hidden=[100,100]"))
    metrics = one.update(rollout())
    assert metrics["ratio_min"] == metrics["ratio_max"] == 1.0


def test_without_normalisation_the_observations_stay_as_they_are() -> None:
    one = learner(config("fpo", "learner.normalise_observations=false"))
    data = rollout()
    data.obs[0, 0] = 1000.0  # beyond the limit of normalised ones
    for _ in range(2):
        one.update(data)
        assert torch.equal(one.normaliser(data.obs), data.obs)


def test_statistics_move_last() -> None:
    """Moved before the update, they would give a first ratio that is not 1."""
    one = learner(config("fpo", "learner.epochs=1", "learner.minibatches=1"))
    one.update(rollout(0))
    data = rollout(1)
    record = one.estimator.record(one.normaliser(data.obs).flatten(0, 1), data.actions.flatten(0, 1), {},
                                 [torch.arange(128)], torch.Generator().manual_seed(0))  # fmt: skip
    one.normaliser.update(data.obs.flatten(0, 1))
    new = one.estimator.compare(one.normaliser(data.obs).flatten(0, 1), data.actions.flatten(0, 1), record,
                               torch.zeros(128))  # fmt: skip
    assert not torch.equal(new.log_ratio, torch.zeros_like(new.log_ratio))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_rollout_gives_the_same_update(algorithm: str) -> None:
    runs = []
    for _ in range(2):
        one = learner(config(algorithm))
        metrics = [one.update(rollout(seed)) for seed in range(3)]
        runs.append((weights(one), metrics))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_micro_batches_change_nothing_but_rounding() -> None:
    one = learner(config("fpo", "learner.microbatch=4096").model_copy())
    pieces = learner(config("fpo", "learner.microbatch=7"))
    a, b = one.update(rollout()), pieces.update(rollout())
    for name, weight in weights(one).items():
        assert torch.allclose(weight, weights(pieces)[name], atol=1e-6), name
    assert a["policy_loss"] == pytest.approx(b["policy_loss"], abs=1e-5)


def test_a_good_action_is_fitted_better_and_a_bad_one_worse() -> None:
    """One step at the old policy follows -A · grad of the CFM loss."""
    for advantage in (1.0, -1.0):
        settings = config("fpo", "learner.epochs=1", "learner.minibatches=1", "learner.normalise_advantages='no'",
                          "learner.gamma=0.0", "learner.learning_rate=1e-4")  # fmt: skip
        one = learner(settings)
        data = rollout(steps=1, envs=1)
        data.rewards.fill_(advantage + one.critic(data.obs).item())
        obs, actions = data.obs.flatten(0, 1), data.actions.flatten(0, 1)
        record = one.estimator.record(obs, actions, {}, [torch.arange(1)], torch.Generator().manual_seed(0))
        state = one.generators[0].get_state()
        one.update(data)
        one.generators[0].set_state(state)
        # the probes of the update: its generator draws the permutation first
        generator = torch.Generator()
        generator.set_state(state)
        torch.randperm(1, generator=generator)
        fresh = learner(settings)
        before = fresh.estimator.record(obs, actions, {}, [torch.arange(1)], generator)["loss"].mean()
        generator.set_state(state)
        torch.randperm(1, generator=generator)
        after = one.estimator.record(obs, actions, {}, [torch.arange(1)], generator)["loss"].mean()
        assert record["loss"].shape == (1, settings.learner.probes.count)
        assert (before - after) * advantage > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_state_carries_everything(algorithm: str) -> None:
    one = learner(config(algorithm, "learner.schedule.kind=adaptive"))
    one.update(rollout(0))
    other = learner(config(algorithm, "learner.schedule.kind=adaptive"), seed=9)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert other._scale.largest == one._scale.largest > 0
    assert one.update(rollout(1)) == other.update(rollout(1))
    assert same(weights(one), weights(other))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_non_finite_reward_stops_before_the_weights_move(algorithm: str) -> None:
    one = learner(config(algorithm, "learner.minibatches=1", "learner.epochs=1"))
    before = {name: weight.clone() for name, weight in weights(one).items()}
    data = rollout()
    data.rewards[3, 2] = float("nan")
    with pytest.raises(TrainingDiverged, match="advantages") as caught:
        one.update(data)
    assert {"obs", "actions", "advantages"} <= caught.value.offending.keys()  # type: ignore[attr-defined]
    assert same(before, weights(one))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinite_reward_stops_as_one_that_is_no_number_does(value: float) -> None:
    """Advantages that are not normalised stay infinite; their gradient is infinite or NaN, and may not be applied."""
    one = learner(config("ppo", "learner.normalise_advantages='no'", "learner.minibatches=1", "learner.gamma=0.0"))
    before = {name: weight.clone() for name, weight in weights(one).items()}
    data = rollout()
    data.rewards[3, 2] = value
    with pytest.raises(TrainingDiverged):
        one.update(data)
    assert same(before, weights(one))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_nothing_is_learned_from_the_first_gradient_that_is_not_finite_on(value: float) -> None:
    """The steps before it have been made; the error holds the rows of the minibatch that it came from."""
    settings = ("learner.normalise_advantages='no'", "learner.minibatches=4", "learner.gamma=0.0")
    one = learner(config("ppo", *settings))
    data = rollout()
    data.rewards[3, 2] = value
    drawn = torch.Generator()
    drawn.set_state(one.generators[0].get_state())
    order = torch.randperm(data.rewards.numel(), generator=drawn)
    envs = data.rewards.shape[1]
    affected = (order % envs == 2) & (order // envs <= 3)  # by the advantage estimation, where 0 · inf is NaN
    bad = int(affected.nonzero()[0]) // (len(order) // 4)
    with pytest.raises(TrainingDiverged, match=r"the actor's gradient is not finite") as caught:
        one.update(data)
    assert all(weight.isfinite().all() for weight in weights(one).values())
    assert {int(each["step"]) for each in one.optimizer.state.values()} == {bad}
    returns = caught.value.offending["returns"]  # type: ignore[attr-defined]
    assert len(returns) == len(order) // 4 and not returns.isfinite().all()


def test_a_generator_of_another_device_is_seeded_from_the_saved_one() -> None:
    """That of a GPU has 16 bytes. What follows is another sequence, but the same one each time."""
    one, other = learner(config("fpo")), learner(config("fpo"), seed=5)
    state = one.state_dict() | {"generators": [torch.arange(16, dtype=torch.uint8)]}
    for each in (one, other):
        each.load_state_dict(state)
    assert torch.equal(one.generators[0].get_state(), other.generators[0].get_state())


@pytest.mark.parametrize(("part", "limit"), [("actor", 1e-3), ("critic", 1e-3), ("actor", None), ("critic", None)])
def test_the_gradients_of_actor_and_critic_are_limited_separately(part: str, limit: float | None) -> None:
    """The norm that is reported is that before the limit; the gradient left behind has the norm of the limit."""
    written = "null" if limit is None else str(limit)
    one = learner(config("fpo", f"learner.max_grad_norm={written}", "learner.epochs=1", "learner.minibatches=1"))
    metrics = one.update(rollout())
    network = getattr(one, part)
    norm = torch.cat([weight.grad.flatten() for weight in network.parameters()]).norm().item()
    assert metrics[f"{part}_grad_norm"] > 0.01
    assert norm == pytest.approx(metrics[f"{part}_grad_norm"] if limit is None else limit, rel=1e-4)


def test_statistics_are_those_of_the_observations_acted_on() -> None:
    """Not of their successors, which the next rollout counts, and all of them: (time, envs) rows."""
    one, data = learner(config("ppo")), rollout()
    one.update(data)
    rows = data.obs.flatten(0, 1).double()
    assert one.normaliser.count == len(rows) == 128
    torch.testing.assert_close(one.normaliser.mean, rows.mean(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.normaliser.variance, rows.var(dim=0, correction=0), rtol=1e-12, atol=1e-12)


def test_every_row_is_in_one_minibatch_of_an_epoch() -> None:
    """10 rows in 4 minibatches of at most 3, in microbatches of at most 2; another order in every epoch."""
    one = learner(config("ppo", "learner.minibatches=4", "learner.microbatch=2", "learner.epochs=3"))
    epochs = one._draw_minibatches(10, one.generators[0])
    orders = [[row for minibatch in epoch for chunk in minibatch for row in chunk.tolist()] for epoch in epochs]
    assert len(orders) == 3 and all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1]
    assert [[len(chunk) for chunk in minibatch] for minibatch in epochs[0]] == [[2, 1], [2, 1], [2, 1], [1]]
    fewer = one._draw_minibatches(2, one.generators[0])  # fewer rows than minibatches
    assert [len(minibatch) for minibatch in fewer[0]] == [1, 1]


def test_advantages_of_a_minibatch_are_normalised_over_all_of_it() -> None:
    """Not over each microbatch: the update is that of one large microbatch, but for rounding."""
    settings = ["learner.normalise_advantages=minibatch", "learner.minibatches=2", "learner.epochs=1"]
    one, pieces = (learner(config("fpo", *settings, f"learner.microbatch={size}")) for size in (4096, 5))
    shifted = rollout()
    shifted.rewards.mul_(3).add_(5)
    a, b = one.update(shifted), pieces.update(shifted)
    for name, weight in weights(one).items():
        assert torch.allclose(weight, weights(pieces)[name], atol=1e-6), name
    # of mean 0: at the old policy, of the first minibatch, the surrogate is the mean advantage
    assert a["policy_loss"] == pytest.approx(b["policy_loss"], abs=1e-5) == pytest.approx(0, abs=0.02)


def test_a_log_ratio_beyond_the_bound_is_counted() -> None:
    one = learner(config("fpo", "learner.log_ratio_bound=1e-6", "learner.epochs=2", "learner.minibatches=1"))
    metrics = one.update(rollout())
    assert metrics["bound_share"] > 0.5
    assert metrics["ratio_max"] == pytest.approx(1, abs=1e-5)


def test_the_value_loss_is_clipped_as_ppo_does() -> None:
    """value 2, old 0, return 1, clip .5: max((2 - 1)², (.5 - 1)²) = 1; value 1, old 0, return 1: (.5 - 1)² = .25; and
    so below: value -2, return -1: 1; value -1: .25. Within the range nothing is clipped: (.25 - 1)² = .5625."""
    from flowrl.training.learner import Batch

    one = learner(config("ppo", "learner.value_clip=0.5"))
    for value, expected in ((2.0, 1.0), (1.0, 0.25), (-2.0, 1.0), (-1.0, 0.25), (0.25, 0.5625)):
        one.critic = lambda obs, value=value: torch.full((len(obs),), value)  # type: ignore[assignment, misc]
        target = torch.full((1,), -1.0 if value < 0 else 1.0)
        part = Batch(torch.zeros(1, OBS), torch.zeros(1, ACTION), torch.zeros(1), target, torch.zeros(1), {})
        assert float(one._value_loss(part)) == pytest.approx(expected)


def test_the_average_of_weights_by_hand() -> None:
    one = learner(config("fpo++", "learner.ema_decay=0.75", "learner.ema_start=1"))
    one.update(rollout(0))
    first = {name: w.clone() for name, w in one.actor.state_dict().items()}
    assert one.average is not None
    assert same(dict(one.average.state_dict()), first)  # a copy until ema_start
    one.update(rollout(1))
    for name, mean in one.average.state_dict().items():
        expected = 0.75 * first[name] + 0.25 * one.actor.state_dict()[name]
        assert torch.allclose(mean, expected, atol=1e-7)


def test_the_average_is_part_of_the_state() -> None:
    settings = config("fpo++", "learner.ema_decay=0.75", "learner.ema_start=0")
    one, other = learner(settings), learner(settings, seed=9)
    one.update(rollout(0))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert one.average is not None and other.average is not None
    assert same(dict(other.average.state_dict()), dict(one.average.state_dict()))
    assert not same(dict(one.average.state_dict()), dict(one.actor.state_dict()))


def test_schedules_by_hand() -> None:
    linear = Schedule(ScheduleSettings(kind="linear"), total_updates=4)
    assert [linear.advance(0.0) for _ in range(5)] == [0.75, 0.5, 0.25, 0, 0]
    adaptive = Schedule(ScheduleSettings(kind="adaptive", target=0.1, largest=2.0), total_updates=4)
    assert adaptive.advance(0.3) == pytest.approx(1 / 1.5)  # above twice the target
    assert adaptive.advance(0.1) == pytest.approx(1 / 1.5)  # within
    assert adaptive.advance(0.01) == pytest.approx(1.0)  # below half
    assert [adaptive.advance(0.01) for _ in range(3)] == [1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "factor"), [(0.201, 1 / 1.5), (0.199, 1.0), (0.101, 1.0), (0.051, 1.0), (0.049, 1.5), (0.0, 1.5)]
)
def test_the_adaptive_schedule_acts_beyond_twice_and_below_half_the_target(change: float, factor: float) -> None:
    schedule = Schedule(ScheduleSettings(kind="adaptive", target=0.1), total_updates=4)
    assert schedule.advance(change) == pytest.approx(factor)


def test_the_adaptive_schedule_has_two_ends() -> None:
    schedule = Schedule(ScheduleSettings(kind="adaptive", target=0.1, smallest=0.5, largest=1.2), total_updates=4)
    assert [schedule.advance(9.0) for _ in range(3)] == pytest.approx([1 / 1.5, 0.5, 0.5])
    assert [schedule.advance(0.0) for _ in range(4)] == pytest.approx([0.75, 1.125, 1.2, 1.2])


def test_a_run_that_is_made_longer_goes_on_at_the_rate_of_its_new_length() -> None:
    """After 4 of 4 updates the rate is 0; of 16, three quarters of it."""
    settings = ["learner.schedule.kind=linear", "learner.learning_rate=4e-4"]
    short, long = (learner(config("fpo", *settings), total_updates=total) for total in (4, 16))
    for _ in range(4):
        short._follow_schedule(0.0)
    assert short.optimizer.param_groups[0]["lr"] == 0
    long.load_state_dict(short.state_dict())
    assert [group["lr"] for group in long.optimizer.param_groups] == pytest.approx([3e-4, 3e-4])


@pytest.mark.parametrize(("kind", "actor_factor", "critic_factor"), [("linear", 0.9, 0.9), ("adaptive", 1.5, 1.0)])
def test_the_adaptive_schedule_leaves_the_critics_rate_alone(
    kind: str, actor_factor: float, critic_factor: float
) -> None:
    """A policy that moves less than half the target gets 1.5 times its rate; linear: 9 of 10 updates are left."""
    settings = [f"learner.schedule.kind={kind}", "learner.schedule.target=10", "learner.learning_rate=1e-4"]
    one = learner(config("fpo", *settings, "learner.critic_learning_rate=1e-3"))
    one.update(rollout())
    actor, critic = (group["lr"] for group in one.optimizer.param_groups)
    assert (actor, critic) == pytest.approx((1e-4 * actor_factor, 1e-3 * critic_factor))


@pytest.mark.slow
def test_an_update_needs_no_sampler() -> None:
    """A full update in a process where flowrl_samplers and torchdiffeq cannot be imported."""
    code = """
        import sys
        for name in ("flowrl_samplers", "torchdiffeq"):
            sys.modules[name] = None
        from tests.training.test_learner import config, learner, rollout
        for algorithm in ("fpo", "fpo++", "ppo"):
            learner(config(algorithm)).update(rollout())
        assert not any(name.startswith(("flowrl_samplers.", "torchdiffeq.")) for name in sys.modules)
        print("updated")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "updated", done.stderr


def test_under_mirror_an_adaptive_schedule_keeps_the_deviation_of_the_log_ratio_at_the_clip() -> None:
    """A third of its ratios belong outside the clip range: by their share it would only fall."""
    adaptive = ("learner.schedule.kind=adaptive", "learner.surrogate=mirror", "learner.epochs=2")
    one = learner(config("fpo", *adaptive, "learner.clip=1e-6"))
    metrics = one.update(rollout())
    assert metrics["log_ratio_std"] / 1e-6 > 2 and one.schedule.factor == pytest.approx(1 / 1.5)
    other = learner(config("fpo", *adaptive, "learner.clip=100"))
    metrics = other.update(rollout())
    assert metrics["log_ratio_std"] / 100 < 0.5 and other.schedule.factor == 1.5
    tail = learner(config("ppo", *adaptive))  # its change is a KL divergence, whose usual target is 0.01
    metrics = tail.update(rollout())
    assert (metrics["kl"] > 0.02) == (tail.schedule.factor < 1)
