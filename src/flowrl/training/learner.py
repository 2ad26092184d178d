"""The learner: updates actor and critic on a rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowrl.contracts.errors import TrainingDiverged
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.recording import Recorder
from flowrl.training.advantage import AdvantageScale, explained_variance, gae, normalise
from flowrl.training.batch import Batch
from flowrl.training.learner_settings import LearnerSettings
from flowrl.training.metrics import Means, over_all
from flowrl.training.optimizer import Optimizer
from flowrl.training.ratio import CFM_LOG_RATIOS, RatioEstimator, bounded, ratio_metrics
from flowrl.training.recorded_step import RecordedStep, StepResult
from flowrl.training.rollout import Rollout
from flowrl.training.schedule import Schedule
from flowrl.training.shards import ALONE, Shards, flat_gradient, set_gradient
from flowrl.training.surrogate import SURROGATES


class Learner:
    """Updates actor, critic and observation statistics, which it owns; independent of environments and policies."""

    def __init__(
        self,
        estimator: RatioEstimator,
        critic: Critic,
        normaliser: Normaliser,
        settings: LearnerSettings,
        total_updates: int,
        seed: int | Sequence[int],
        surrogate: Callable[[Tensor, Tensor, float], Tensor] | None = None,
        shards: Shards = ALONE,
    ) -> None:
        """Begin with the weights of the actor of `estimator` and of `critic`, which are updated in place.

        Args:
            estimator: Compares the old with the new policy; it holds the actor.
            critic: Maps normalised observations (..., observation) to values (...,).
            normaliser: Statistics of the observations, updated last in each update.
            settings: The block `learner` of a recipe.
            total_updates: The number of updates over which a schedule runs.
            seed: Seed of minibatches and probes; of several shards, one for each that this process holds.
            surrogate: An objective of your own, to be maximised: log-ratio (batch, n), advantage (batch, 1), clip →
                (batch, n); default: that of the settings.
            shards: The shards of the run, a rollout for each of which an update takes.
        """
        self.estimator = estimator
        self.actor = estimator.actor
        self.critic = critic
        self.normaliser = normaliser
        self.settings = settings
        self.average: nn.Module | None = copy.deepcopy(self.actor) if settings.ema_decay is not None else None
        self.optimizer = Optimizer(self.actor, critic, settings)
        self.schedule = Schedule(settings.schedule, total_updates, 1.0 if self._steers_by_deviation else 0.01)
        self.refresh_rates()
        self._scale = AdvantageScale(settings.advantage_floor)
        device, seeds = normaliser.shift.device, [seed] if isinstance(seed, int) else seed
        self.generators = [torch.Generator(device).manual_seed(each) for each in seeds]  # one for each own shard
        self.shards = shards
        self._surrogate = surrogate or SURROGATES[settings.surrogate]
        self._recorded_step: RecordedStep | None = None

    def record_steps(self, recorder: Recorder) -> None:
        """Record the optimiser's steps with `recorder`, and replay them; for a learner of a single shard."""
        self.optimizer.keep_rates_in_tensors()
        self._recorded_step = RecordedStep(self._optimise, recorder, self.optimizer.without_effect)

    @property
    def _steers_by_deviation(self) -> bool:
        """Whether an adaptive schedule follows the log-ratio's deviation: a third of the ratios of `mirror`, whose
        optimum is log r = clip · A, belong outside the clip range."""
        return self.settings.surrogate == "mirror" and self.settings.ratio in CFM_LOG_RATIOS

    def update(self, *rollouts: Rollout) -> dict[str, float]:
        """Update actor and critic on a rollout for each of the own shards, which are of equal sizes, and return the
        metrics of all shards (PPO, arXiv 1707.06347, Algorithm 1).

        Raises:
            Diverged: a loss or a gradient is not finite; the weights are then of no use, and `offending` holds the
                minibatch.
        """
        rollouts = tuple(rollout.to(self.normaliser.shift.device) for rollout in rollouts)
        orders = [self._draw_minibatches(rollouts[0].rewards.numel(), draws) for draws in self.generators]
        batches = self._prepare(rollouts, [order[0] for order in orders])
        last_epoch = [Means() for _ in batches]
        norms = []  # of every step
        self.optimizer.diverged.zero_()
        for number, epoch in enumerate(zip(*orders, strict=True)):
            means = last_epoch if number == len(orders[0]) - 1 else None
            permuted = [batch[_rows(minibatches)] for batch, minibatches in zip(batches, epoch, strict=True)]
            begin = 0
            for chunks in epoch[0]:  # those of the other shards have the same sizes
                sizes = [len(rows) for rows in chunks]
                rows = slice(begin, begin + sum(sizes))
                norms.append(self._step([batch[rows] for batch in permuted], sizes, means))
                begin = rows.stop
        # Neither fused steps nor replayed ones count their changes, by which the actor knows what it may keep.
        torch.autograd.graph.increment_version(list(self.actor.parameters()))
        values, returns = [each.values for each in batches], [each.returns for each in batches]
        explained = explained_variance(values, returns, self.shards)
        metrics = over_all(last_epoch, self.shards, explained_variance=explained, diverged=self.optimizer.diverged)
        if metrics.pop("diverged"):
            raise self._divergence(norms, batches, orders)
        metrics["learning_rate"] = self.settings.learning_rate * self.schedule.factor
        deviation = metrics["log_ratio_std"] / self.settings.clip
        change = deviation if self._steers_by_deviation else metrics["clipped_share"]
        self._follow_schedule(metrics.get("kl", change))
        self._follow_average()
        self._follow_observations(rollouts)  # last: until here they are the statistics that acted
        return metrics

    def batch(self, *rollouts: Rollout) -> Batch:
        """Return what an update on the `rollouts` would learn from in the first of them; as an update does, it draws
        minibatches and probes."""
        rollouts = tuple(rollout.to(self.normaliser.shift.device) for rollout in rollouts)
        orders = [self._draw_minibatches(rollouts[0].rewards.numel(), draws) for draws in self.generators]
        return self._prepare(rollouts, [order[0] for order in orders])[0]

    def _draw_minibatches(self, batch: int, draws: torch.Generator) -> list[list[list[Tensor]]]:
        """Draw the rows of every epoch, minibatch and microbatch of one shard."""
        size = -(-batch // min(self.settings.minibatches, batch))
        epochs = []
        for _ in range(self.settings.epochs):
            order = torch.randperm(batch, generator=draws, device=draws.device)
            epochs.append([list(rows.split(self.settings.microbatch)) for rows in order.split(size)])
        return epochs

    @torch.no_grad()
    def _prepare(self, rollouts: Sequence[Rollout], first_epochs: Sequence[list[list[Tensor]]]) -> list[Batch]:
        """Compute values, advantages and the record of the old policy for each shard, with the weights that acted."""
        together = zip(rollouts, first_epochs, self.generators, strict=True)
        batches = [self._prepare_shard(*each) for each in together]
        if self.settings.normalise_advantages == "batch":
            scaled = normalise([each.advantages for each in batches], self.shards, self._scale)
            batches = [replace(each, advantages=part) for each, part in zip(batches, scaled, strict=True)]
        return batches

    def _prepare_shard(self, rollout: Rollout, first_epoch: list[list[Tensor]], draws: torch.Generator) -> Batch:
        settings = self.settings
        obs = self.normaliser(rollout.obs)
        values = self._values(obs)
        next_values = self._next_values(rollout, values)
        rewards = rollout.rewards * settings.reward_scale
        advantages = gae(
            rewards, values, next_values, rollout.terminated, rollout.truncated, settings.gamma, settings.gae_lambda
        )
        returns = advantages + values
        flat_obs, actions = obs.flatten(0, 1), rollout.actions.flatten(0, 1)
        chunks = [rows for minibatch in first_epoch for rows in minibatch]
        given = {name: value.flatten(0, 1) for name, value in rollout.generation.items()}
        record = self.estimator.record(flat_obs, actions, given, chunks, draws)
        return Batch(flat_obs, actions, advantages.flatten(), returns.flatten(), values.flatten(), record)

    def _values(self, obs: Tensor) -> Tensor:
        rows = obs.flatten(0, -2).split(self.settings.microbatch)
        return torch.cat([self.critic(part) for part in rows]).reshape(obs.shape[:-1])

    def _next_values(self, rollout: Rollout, values: Tensor) -> Tensor:
        """Values of the true successors: the next row's, but at the rollout's and at episodes' ends."""
        next_values = torch.cat([values[1:], self._values(self.normaliser(rollout.successors[-1:]))])
        ended = rollout.truncated
        if ended.any():
            next_values[ended] = self._values(self.normaliser(rollout.successors[ended]))
        return next_values

    def _step(self, parts: Sequence[Batch], sizes: list[int], means: list[Means] | None) -> Tensor:
        """One optimiser step on a minibatch, whose rows in each shard are `parts`, in chunks of these `sizes`.

        Its metrics go into `means`. Returns the norms of the gradients of actor and critic (2,).
        """
        step = self._recorded_step or self._optimise
        norms, metrics = step(parts, sizes, means is not None)
        of_gradients = dict(zip(("actor_grad_norm", "critic_grad_norm"), norms, strict=True))
        for part, chunks in zip(means or (), metrics, strict=means is not None):
            for size, of_chunk in zip(sizes, chunks, strict=True):
                part.add(of_chunk, size)
            part.add(of_gradients, sum(sizes))
        return norms

    def _optimise(self, parts: Sequence[Batch], sizes: list[int], measured: bool) -> StepResult:
        """Compute the gradients and step; the metrics are those of every chunk, empty unless `measured`."""
        advantages = [part.advantages for part in parts]
        if self.settings.normalise_advantages == "minibatch":
            advantages = normalise(advantages, self.shards)
        gradients: list[Tensor] = []  # of the shards, flat
        metrics = []
        for number, part in enumerate(parts):
            self.optimizer.zero_grad(set_to_none=True)
            metrics.append(self._backward(part, sizes, advantages[number], measured))
            if self.shards.count > 1:
                gradients.append(flat_gradient(self.optimizer))
        if gradients:
            set_gradient(self.optimizer, self.shards.total(gradients) / self.shards.count)
        return self.optimizer.limited_step(), metrics

    def _backward(
        self, minibatch: Batch, sizes: list[int], advantages: Tensor, measured: bool
    ) -> list[dict[str, Tensor]]:
        """Compute the gradient of a shard's minibatch, the mean over its rows, and return the metrics of its chunks."""
        begin, rows, found = 0, sum(sizes), []
        for size, of_chunk in zip(sizes, advantages.split(sizes), strict=True):
            part = minibatch[begin : begin + size]
            begin += size
            result = self.estimator.compare(part.obs, part.actions, part.record, of_chunk)
            log_ratio = bounded(result.log_ratio, self.settings.log_ratio_bound)
            surrogate = self._surrogate(log_ratio, of_chunk.unsqueeze(-1), self.settings.clip)
            losses = {"policy_loss": -surrogate.mean(), "value_loss": self._value_loss(part)}
            loss = losses["policy_loss"] + self.settings.value_coefficient * losses["value_loss"]
            if result.entropy is not None:
                loss = loss - self.settings.entropy_coefficient * result.entropy.mean()
            if result.penalty is not None:
                loss = loss + result.penalty
            (loss * (size / rows) if size < rows else loss).backward()
            metrics: dict[str, Tensor] = {}
            if measured:
                ratios = ratio_metrics(result.log_ratio, log_ratio, self.settings.clip, self.settings.log_ratio_bound)
                metrics = {**ratios, **losses, **result.metrics}
            found.append({name: value.detach() for name, value in metrics.items()})
        return found

    def _value_loss(self, part: Batch) -> Tensor:
        """Compute the mean squared error of the values, or of the worse of value and clipped value."""
        values = self.critic(part.obs)
        error = (values - part.returns).square()
        clip = self.settings.value_clip
        if clip is not None:
            moved = part.values + (values - part.values).clamp(-clip, clip)
            error = torch.maximum(error, (moved - part.returns).square())
        return error.mean()

    def _divergence(
        self, norms: list[Tensor], batches: Sequence[Batch], orders: Sequence[list[list[list[Tensor]]]]
    ) -> Diverged:
        """Return the error of the first step whose `norms` (2,) of actor's and critic's gradient are not finite, as
        they are only if every loss and gradient of all shards is."""
        finite = torch.stack(norms).isfinite().tolist()
        step = next(number for number, both in enumerate(finite) if not all(both))
        names = ("obs", "actions", "advantages", "returns")
        found = []
        for batch, epochs in zip(batches, orders, strict=True):
            part = batch[torch.cat([chunks for minibatches in epochs for chunks in minibatches][step])]
            found.append({name: getattr(part, name) for name in names} | part.record)
        found = self.shards.gather(found)
        offending = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        return Diverged(f"the {'critic' if finite[step][0] else 'actor'}'s gradient", offending)

    def _follow_observations(self, rollouts: Sequence[Rollout]) -> None:
        """Add the observations of all shards to their statistics."""
        parts = [rollout.obs.flatten(0, 1) for rollout in rollouts]
        if self.shards.count == 1:
            self.normaliser.update(parts[0])
        elif self.normaliser.enabled:
            self.normaliser.merge(*self.shards.moments(parts))

    def _follow_schedule(self, change: float) -> None:
        self.schedule.advance(change)
        self.refresh_rates()

    def refresh_rates(self) -> None:
        """Give the optimiser the rates of the settings and of the schedule's present factor."""
        factor = self.schedule.factor
        # The change of the policy is no measure of how fast the critic may learn.
        own = 1.0 if self.settings.schedule.kind == "adaptive" else factor
        critic_rate = (self.settings.critic_learning_rate or self.settings.learning_rate) * own
        self.optimizer.set_rates(self.settings.learning_rate * factor, critic_rate)

    @torch.no_grad()
    def _follow_average(self) -> None:
        """average ← decay · average + (1 - decay) · actor, a plain copy until `ema_start`."""
        if self.average is None or self.settings.ema_decay is None:
            return
        decay = self.settings.ema_decay if self.schedule.updates > self.settings.ema_start else 0.0
        for mean, weight in zip(self.average.parameters(), self.actor.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on, as tensors and plain values."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "normaliser": self.normaliser.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "advantage_scale": self._scale.largest,
            "generators": [draws.get_state() for draws in self.generators],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s result with the present settings, which may differ from those of `state`.

        A moving average that `state` does not have begins at the present weights.
        """
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        if self.average is not None:
            self.average.load_state_dict(state["actor"] if state["average"] is None else state["average"])
        self.normaliser.load_state_dict(state["normaliser"])
        self.optimizer.load_moments(state["optimizer"]["state"])
        if self._recorded_step is not None:
            self._recorded_step.forget()
        self.schedule.load_state_dict(state["schedule"])
        self.refresh_rates()  # with a larger total_steps the rate follows the new length
        self._scale.largest = state["advantage_scale"]
        for draws, saved in zip(self.generators, state["generators"], strict=True):
            _restore_generator(draws, saved)


def _rows(minibatches: list[list[Tensor]]) -> Tensor:
    """Return the rows of an epoch, in their order."""
    return torch.cat([rows for chunks in minibatches for rows in chunks])


def _restore_generator(draws: torch.Generator, saved: Tensor) -> None:
    """Continue the random numbers; a state of another device's kind of generator gives a seed."""
    if len(saved) == len(draws.get_state()):
        draws.set_state(saved)
    else:
        draws.manual_seed(int.from_bytes(bytes(saved[:8].tolist()), "little") >> 1)


class Diverged(TrainingDiverged):
    """A loss or gradient is not finite; `offending` holds the tensors of the minibatch."""

    def __init__(self, what: str, offending: dict[str, Tensor]) -> None:
        culprits = [name for name, tensor in offending.items() if not torch.isfinite(tensor).all()]
        cause = f" (nor are all values of {', '.join(culprits)} in its batch)" if culprits else ""
        super().__init__(f"{what} is not finite{cause}")
        self.offending = offending
