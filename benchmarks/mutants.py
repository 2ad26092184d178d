"""The mutants of `mutation.py`: each one wrong change that a test should notice, and the tests that should.

Add one for every fault that was once in the code. `old` must be in the file exactly once; keep it short, so that it
survives other changes of its line.
"""

# ruff: noqa: E501  # a mutant is a line

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One replacement in one file."""

    path: str
    old: str
    new: str
    breaks: str  # what is wrong with it
    tests: tuple[str, ...]  # files or test names
    excuse: str = ""  # why no test can notice it, where none can


@dataclass(frozen=True)
class File:
    """A file of the source, and the tests of it."""

    path: str
    tests: tuple[str, ...]

    def mutant(self, old: str, new: str, breaks: str, *tests: str, excuse: str = "") -> Mutant:
        """Return a mutant of this file; `tests` instead of the file's."""
        return Mutant(self.path, old, new, breaks, tests or self.tests, excuse)


VALUES = "tests/training/test_update_values.py"
LEARNER = "tests/training/test_learner.py"
BEST = "tests/experiments/test_best.py"

optimizer = File("src/flowrl/training/optimizer.py", (VALUES,))
learner = File("src/flowrl/training/learner.py", (VALUES,))
advantage = File("src/flowrl/training/advantage.py", ("tests/training/test_advantage.py", VALUES))
ratio = File("src/flowrl/training/ratio.py", ("tests/training/test_surrogate.py", VALUES))
surrogate = File("src/flowrl/training/surrogate.py", ("tests/training/test_surrogate.py",))
schedule = File("src/flowrl/training/schedule.py", (LEARNER + "::test_schedules_by_hand", LEARNER + "::test_the_adaptive_schedule_acts_beyond_twice_and_below_half_the_target", LEARNER + "::test_the_adaptive_schedule_has_two_ends", LEARNER + "::test_a_run_that_is_made_longer_goes_on_at_the_rate_of_its_new_length"))  # fmt: skip
shards = File("src/flowrl/training/shards.py", ("tests/training/test_shards.py",))
rollout = File("src/flowrl/training/rollout.py", ("tests/training/test_rollout.py",))
loop = File("src/flowrl/training/loop.py", (BEST,))
metrics = File("src/flowrl/training/metrics.py", (VALUES, LEARNER))
matching = File("src/flowrl/flow/matching.py", ("tests/flow/test_matching.py",))
path = File("src/flowrl/flow/path.py", ("tests/flow/test_matching.py",))
last_step = File("src/flowrl/flow/last_step.py", ("tests/policies/test_flow.py",))
divisors = File("src/flowrl/contracts/divisors.py", ("tests/networks/test_velocity.py", "tests/flow/test_matching.py"))
velocity = File("src/flowrl/networks/velocity.py", ("tests/networks/test_velocity.py",))
gaussian = File("src/flowrl/networks/gaussian.py", ("tests/networks/test_gaussian.py", VALUES))
recipe = File("src/flowrl/config/recipe.py", ("tests/config/test_recipe.py",))
kept_times = File(
    "src/flowrl/networks/kept_times.py", ("tests/networks/test_velocity.py", "tests/networks/test_mixture.py")
)
mixture = File("src/flowrl/networks/mixture.py", ("tests/networks/test_mixture.py",))
at_probes = File("src/flowrl/networks/mixture_at_probes.py", ("tests/networks/test_mixture.py",))
normaliser = File("src/flowrl/networks/normaliser.py", ("tests/networks/test_normaliser.py",))
fitted = File("samplers/flowrl_samplers/fitted.py", ("tests/samplers/test_fitted.py",))
fitted_file = File("src/flowrl/config/fitted_file.py", ("tests/config/test_fitted_file.py",))
PROGRAM = "tests/deployment/test_program.py::test_the_program_of_a_flow_to_a_mixture_evaluates_its_network_once"
folding = File("src/flowrl/deployment/folding.py", (PROGRAM,))
program = File("src/flowrl/deployment/program.py", (PROGRAM,))
c_reader = File("src/flowrl/deployment/c_reader.py", ("tests/deployment/test_c_source.py",))
contract = File("src/flowrl/deployment/contract.py", ("tests/deployment/test_contract.py",))
singular_end = File("src/flowrl/deployment/singular_end.py", ("tests/deployment/test_singular_end.py",))
FLOW_RATIOS = "tests/training/test_flow_ratios.py"
COMPARISON = "tests/experiments/test_comparison.py"
flow_ratios = File("src/flowrl/training/flow_ratios.py", (FLOW_RATIOS,))
density = File("src/flowrl/flow/density.py", ("tests/flow/test_density.py",))
inversion = File("src/flowrl/flow/inversion.py", ("tests/flow/test_inversion.py",))
compared = File("src/flowrl/experiments/compared_samplers.py", ("tests/experiments/test_sampler_comparison.py",))
gate = File("src/flowrl/experiments/latency.py", ("tests/evaluation/test_latency.py",))
mlp = File("src/flowrl/networks/mlp.py", ("tests/networks/test_velocity.py", "tests/networks/test_mlp.py"))
mask = File("src/flowrl/networks/mask.py", ("tests/networks/test_mask.py::test_no_hidden_entry_changes_an_action", "tests/networks/test_mask.py::test_the_mask_is_part_of_the_saved_network"))  # fmt: skip
critic = File("src/flowrl/networks/critic.py", ("tests/networks/test_mask.py::test_a_masked_critic_is_blind_to_it_and_a_full_one_is_not",))  # fmt: skip
flow_policy = File("src/flowrl/policies/flow.py", ("tests/policies/test_flow.py",))
noise = File("src/flowrl/policies/noise.py", ("tests/policies/test_noise.py",))
gaussian_policy = File("src/flowrl/policies/gaussian.py", ("tests/policies/test_noise.py",))
plan = File("samplers/flowrl_samplers/_plan.py", ("tests/samplers/test_fixed_grid.py",))
rk4 = File("samplers/flowrl_samplers/rk4.py", ("tests/samplers/test_fixed_grid.py",))
heun = File("samplers/flowrl_samplers/heun.py", ("tests/samplers/test_fixed_grid.py",))
midpoint = File("samplers/flowrl_samplers/midpoint.py", ("tests/samplers/test_fixed_grid.py",))
ralston = File("samplers/flowrl_samplers/ralston.py", ("tests/samplers/test_fixed_grid.py",))
ab2 = File("samplers/flowrl_samplers/ab2.py", ("tests/samplers/test_fixed_grid.py",))
dopri5 = File("samplers/flowrl_samplers/dopri5.py", ("tests/samplers/test_dopri5.py",))
conformance = File("src/flowrl/samplers/conformance.py", ("tests/samplers/test_conformance.py",))
registry = File("src/flowrl/samplers/registry.py", ("tests/samplers/test_registry.py",))
checkpoint = File("src/flowrl/storage/checkpoint.py", ("tests/storage/test_checkpoint.py", "tests/storage/test_values.py"))  # fmt: skip
integrity = File("src/flowrl/storage/integrity.py", ("tests/storage/test_checkpoint.py", "tests/storage/test_values.py"))  # fmt: skip
files = File("src/flowrl/storage/files.py", ("tests/storage/test_files.py", "tests/storage/test_values.py", "tests/storage/test_checkpoint.py"))  # fmt: skip
rng_state = File("src/flowrl/storage/rng_state.py", ("tests/storage/test_checkpoint.py::test_random_generators_continue_where_they_were_saved", "tests/storage/test_values.py"))  # fmt: skip
jsonl = File(
    "src/flowrl/reporting/jsonl.py", ("tests/reporting/test_torn_lines.py", "tests/reporting/test_reporting.py")
)
episodes = File(
    "src/flowrl/evaluation/episodes.py", ("tests/evaluation/test_episodes.py", "tests/evaluation/test_statistics.py")
)
statistics = File("src/flowrl/evaluation/statistics.py", ("tests/evaluation/test_episodes.py", "tests/evaluation/test_statistics.py"))  # fmt: skip
pareto = File("src/flowrl/evaluation/pareto.py", ("tests/evaluation/test_pareto.py",))
latency = File("src/flowrl/evaluation/latency.py", ("tests/evaluation/test_latency.py",))
machine = File("src/flowrl/evaluation/machine.py", ("tests/evaluation/test_latency.py::test_the_verdict_on_two_cores", "tests/evaluation/test_latency.py::test_the_reason_names_load_and_cores"))  # fmt: skip
actions = File("src/flowrl/envs/actions.py", ("tests/envs/test_adapter.py", "tests/envs/test_faulty_environments.py"))
tensors = File("src/flowrl/envs/tensors.py", ("tests/envs/test_adapter.py", "tests/envs/test_captured_values.py"))
adapter = File("src/flowrl/envs/adapter.py", ("tests/envs/test_adapter.py", "tests/envs/test_captured_values.py"))
capture = File(
    "src/flowrl/envs/state_encoding.py", ("tests/envs/test_captured_values.py", "tests/envs/test_state_capture.py")
)
train = File("src/flowrl/experiments/saver.py", (BEST,))
build = File("src/flowrl/experiments/build.py", (BEST,))

MUTANTS = [
    # --- training
    learner.mutant("returns = advantages + values", "returns = advantages + next_values", "the critic's target is A + V of the next state"),
    learner.mutant("rollout.rewards * settings.reward_scale", "rollout.rewards", "reward_scale is ignored"),
    learner.mutant("ended = rollout.truncated\n", "ended = rollout.terminated\n", "true successors are valued where an episode terminated, not where it was truncated"),
    learner.mutant("values[1:], self._values(self.normaliser(rollout.successors[-1:]))", "values[1:], values[-1:]", "the last row's successor is its own observation"),
    learner.mutant("loss - self.settings.entropy_coefficient", "loss + self.settings.entropy_coefficient", "the entropy bonus has the wrong sign"),
    optimizer.mutant("self.limit) for network in self.networks", 'self.limit if network is self.networks[0] else float("inf")) for network in self.networks', "the critic's gradient is not limited", LEARNER + "::test_the_gradients_of_actor_and_critic_are_limited_separately"),
    optimizer.mutant("network.parameters(), self.limit)", 'network.parameters(), self.limit if network is self.networks[1] else float("inf"))', "the actor's gradient is not limited", LEARNER + "::test_the_gradients_of_actor_and_critic_are_limited_separately"),
    optimizer.mutant("(~both.isfinite()).any()", "both.isnan().any()", "an infinite gradient is applied", "tests/training/test_optimizer.py"),
    optimizer.mutant("self.diverged.logical_or_(", "self.diverged.copy_(", "a finite gradient after a NaN is applied", LEARNER + "::test_nothing_is_learned_from_the_first_gradient_that_is_not_finite_on"),
    learner.mutant("begin = rows.stop", "begin += sizes[0]", "a minibatch begins at the second chunk of the one before it", LEARNER),
    learner.mutant("rollout.obs.flatten(0, 1) for", "rollout.successors.flatten(0, 1) for", "statistics are those of the successors", LEARNER + "::test_statistics_are_those_of_the_observations_acted_on"),
    learner.mutant('loss = losses["policy_loss"] + self.settings.value_coefficient', 'loss = losses["policy_loss"] + 2 * self.settings.value_coefficient', "the value loss counts twice"),
    learner.mutant("torch.maximum(error, (moved - part.returns).square())", "torch.minimum(error, (moved - part.returns).square())", "value clipping takes the smaller error"),
    learner.mutant(".clamp(-clip, clip)", ".clamp(max=clip)", "value clipping is one-sided", LEARNER + "::test_the_value_loss_is_clipped_as_ppo_does"),
    learner.mutant("(loss * (size / rows) if size < rows else loss).backward()", "loss.backward()", "microbatches are summed, not averaged", LEARNER + "::test_micro_batches_change_nothing_but_rounding"),
    learner.mutant("self.optimizer.zero_grad(set_to_none=True)\n", "pass\n", "gradients of earlier steps stay"),
    learner.mutant("self.settings.critic_learning_rate or self.settings.learning_rate", "self.settings.learning_rate", "critic_learning_rate is ignored"),
    learner.mutant('own = 1.0 if self.settings.schedule.kind == "adaptive" else factor', "own = factor", "the adaptive schedule changes the critic's rate", LEARNER + "::test_the_adaptive_schedule_leaves_the_critics_rate_alone"),
    learner.mutant("mean.lerp_(weight, 1 - decay)", "mean.lerp_(weight, decay)", "the moving average uses 1 - decay", LEARNER + "::test_the_average_of_weights_by_hand"),
    learner.mutant("self.schedule.updates > self.settings.ema_start", "self.schedule.updates >= self.settings.ema_start", "the moving average begins an update early", LEARNER + "::test_the_average_of_weights_by_hand"),
    learner.mutant("torch.autograd.graph.increment_version(list(self.actor.parameters()))", "pass", "a flow acts with the layers that it folded before a recorded update", "tests/training/test_recorded_step.py"),
    learner.mutant("self._recorded_step.forget()", "pass", "after a resume a recorded step goes on with the moments of before", "tests/training/test_recorded_step.py"),
    optimizer.mutant("self.diverged.fill_(1)", "pass", "a recording steps before it is replayed", "tests/training/test_recorded_step.py"),
    optimizer.mutant('group["lr"].fill_(rate)', "pass", "a recorded step keeps the first learning rate", "tests/training/test_recorded_step.py"),
    flow_policy.mutant('getattr(self.field, "drop_kept", lambda: None)', "lambda: None", "recorded actions are those of the weights at the recording", "tests/policies/test_flow.py"),
    optimizer.mutant("betas=(settings.adam_beta1, settings.adam_beta2)", "betas=(settings.adam_beta2, settings.adam_beta1)", "Adam's betas are swapped"),
    optimizer.mutant("weight_decay=settings.weight_decay", "weight_decay=0.1", "weights decay unasked"),
    learner.mutant("advantages=part) for each", "advantages=each.advantages) for each", "advantages are not normalised"),
    learner.mutant("advantages = normalise(advantages, self.shards)", "advantages = advantages", "normalise_advantages: minibatch does nothing", LEARNER + "::test_advantages_of_a_minibatch_are_normalised_over_all_of_it"),
    learner.mutant("size = -(-batch // min(self.settings.minibatches, batch))", "size = batch // min(self.settings.minibatches, batch)", "an epoch has a minibatch too many", LEARNER + "::test_every_row_is_in_one_minibatch_of_an_epoch"),
    learner.mutant("order = torch.randperm(batch, generator=draws, device=draws.device)", "order = torch.arange(batch)", "rows are not shuffled", LEARNER + "::test_every_row_is_in_one_minibatch_of_an_epoch"),
    learner.mutant("self._scale.largest = state", "_ = state", "the advantages' scale is lost at resume", LEARNER + "::test_a_state_carries_everything"),
    learner.mutant("    _restore_generator(draws, saved)\n", "    pass\n", "minibatches and probes are drawn again at resume", LEARNER + "::test_a_state_carries_everything"),
    optimizer.mutant('self.state_dict() | {"state": moments}', "self.state_dict()", "Adam's moments are lost at resume", LEARNER + "::test_a_state_carries_everything"),
    learner.mutant('state["actor"] if state["average"] is None else state["average"]', 'state["actor"]', "the moving average is lost at resume", LEARNER + "::test_the_average_is_part_of_the_state"),
    learner.mutant("chunks = [rows for minibatch in first_epoch for rows in minibatch]", "chunks = [torch.arange(len(flat_obs))]", "the old losses are computed in other pieces than the new ones", LEARNER + "::test_the_first_ratio_is_one_in_pieces_of_any_size"),
    advantage.mutant("(~terminated) - values", "(~truncated) - values", "a truncation has no value after it"),
    advantage.mutant("(~(terminated | truncated))", "(~terminated)", "the sum of advantages goes on over a truncation"),
    advantage.mutant("carry = gamma * gae_lambda", "carry = gae_lambda", "the sum of advantages is not discounted"),
    advantage.mutant("torch.maximum(FADING * self._largest", "torch.maximum(self._largest", "the largest deviation does not fade"),
    advantage.mutant("(self.floor * self._largest)", "(self.floor + 0 * self._largest)", "the floor is absolute"),
    advantage.mutant("(part - mean) /", "part /", "normalised advantages keep their mean"),
    advantage.mutant("1 - unexplained / variance", "1 - (returns[0] - values[0]).square().mean() / variance", "a constant error of the critic counts as unexplained", VALUES),
    ratio.mutant("(log_ratio.exp() - 1 - log_ratio).mean()", "(log_ratio.exp() - 1).mean()", "the KL estimate lacks its correction"),
    ratio.mutant("advantage.unsqueeze(-1) < 0, _limited", "advantage.unsqueeze(-1) >= 0, _limited", "the limit for negative advantages is that of positive ones"),
    ratio.mutant("return loss + (loss.clamp(max=limit) - loss).detach()", "return loss.clamp(max=limit)", "a limited loss has no gradient"),
    ratio.mutant("return (old_loss - new_loss).mean(dim=-1, keepdim=True)", "return (new_loss - old_loss).mean(dim=-1, keepdim=True)", "the averaged log-ratio has the wrong sign"),
    ratio.mutant("return log_ratio + (log_ratio.clamp(-bound, bound) - log_ratio).detach()", "return log_ratio.clamp(-bound, bound)", "a bounded log-ratio has no gradient"),
    ratio.mutant("((ratio - 1).abs() > clip)", "(ratio - 1 > clip)", "ratios below the range are not counted as clipped"),
    ratio.mutant("\"noise\": probes.noise, \"loss\": loss", "\"noise\": probes.noise.flip(0), \"loss\": loss", "new losses are taken at other probes than the old", LEARNER + "::test_the_first_ratio_of_every_update_is_exactly_one"),
    ratio.mutant("return (new_log_probability - old_log_probability)", "return (old_log_probability - new_log_probability)", "PPO's log-ratio has the wrong sign"),
    ratio.mutant("\"bound_share\": (raw.abs() > bound)", "\"bound_share\": (log_ratio.abs() > bound)", "log-ratios beyond the bound are not counted"),
    surrogate.mutant("torch.minimum(ratio * advantage", "torch.maximum(ratio * advantage", "PPO's surrogate takes the larger of the two"),
    surrogate.mutant("ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(max=1 + clip)", "PPO's clip is one-sided"),
    surrogate.mutant("advantage.abs() / (2 * clip) * (ratio - 1)", "advantage / (2 * clip) * (ratio - 1)", "SPO pushes bad actions away"),
    surrogate.mutant("torch.where(advantage >= 0,", "torch.where(advantage < 0,", "ASPO's two parts are swapped"),
    surrogate.mutant("log_ratio.square() / (2 * clip)", "log_ratio.square() / clip", "mirror descent goes half as far"),
    schedule.mutant("change > 2 * self._target", "change > self._target", "the rate falls above the target, not above twice it"),
    schedule.mutant("change < self._target / 2", "change < self._target", "the rate rises below the target, not below half of it"),
    schedule.mutant("max(settings.smallest, self.factor / 1.5)", "self.factor / 1.5", "the rate has no lower end"),
    schedule.mutant("min(settings.largest, self.factor * 1.5)", "self.factor * 1.5", "the rate has no upper end"),
    schedule.mutant("max(0.0, 1 - self.updates / self._total_updates)", "1 - self.updates / self._total_updates", "the linear rate becomes negative"),
    schedule.mutant('state["updates"])\n        if settings.kind == "linear"', 'state["updates"])\n        if settings.kind == "none"', "a run that is made longer keeps the rate of its former length"),
    shards.mutant("zip(parts[::2], parts[1::2], strict=True)", "zip(parts[: len(parts) // 2], parts[len(parts) // 2 :], strict=True)", "the sum is another tree, which processes cannot share"),
    shards.mutant("number = self.count * len(parts[0])", "number = len(parts[0])", "moments are divided by the rows of one shard"),
    shards.mutant("(part.double() - mean).square()", "part.double().square()", "squares are not about the mean"),
    rollout.mutant("rollout.successors[t] = step.successor", "rollout.successors[t] = step.obs", "the successor is the observation after the restart"),
    rollout.mutant("rollout.obs[t] = obs", "rollout.obs[t] = step.obs", "a row has the observation after its action"),
    rollout.mutant("obs = step.obs\n    return", "obs = step.successor\n    return", "the policy acts on the end of the former episode"),
    rollout.mutant("ended = done & self.counted", "ended = done", "parts of staggered episodes count"),
    rollout.mutant("self.lengths[done] = 0\n", "pass\n", "lengths go on over the end of an episode"),
    rollout.mutant("self.counted[done] = True", "pass", "a staggered environment never counts"),
    rollout.mutant("successes[~successes.isnan()]", "successes.nan_to_num()", "episodes that were not judged count as failures"),
    loop.mutant("self.window_return, self.window_episodes = 0.0, 0\n", "pass\n", "windows are not separate"),
    loop.mutant("better = mean > self.best_return", "better = mean >= self.best_return", "a window as good as the best replaces it"),
    loop.mutant("self.window_return += return_mean * (episodes - self.episodes)", "self.window_return += return_mean", "iterations weigh alike, whatever their episodes"),
    loop.mutant("return self.env_steps >= self.total_steps", "return self.env_steps > self.total_steps", "one iteration too many", "tests/training/test_loop.py"),
    loop.mutant("self.seconds += end - begin", "self.seconds = end - begin", "the seconds are those of the last iteration", "tests/training/test_loop.py"),
    loop.mutant("self.env_steps += steps", "self.env_steps += self.rollout_steps", "steps of one environment are counted", "tests/training/test_loop.py"),
    loop.mutant("not self.finished and not stop()", "not self.finished", "a signal does not stop the training", "tests/training/test_loop.py"),
    metrics.mutant("value = value * rows", "value = value", "metrics are summed, not averaged", "tests/training/test_loop.py"),
    metrics.mutant('"_min": torch.minimum', '"_min": torch.add', "the smallest ratio is a mean", "tests/training/test_loop.py"),
    build.mutant('content.get("evaluation_weights") == "actor"', "False", "best.pt is evaluated with the moving average"),
    train.mutant('content["evaluation_weights"] = "actor"', "pass", "best.pt does not say which weights were measured"),
    # --- flow
    matching.mutant("bounded(t).square()", "t.square()", "the weight eps is 0 at t = 0, where the network's divisor is not"),
    matching.mutant("bounded(1 - t).square()", "(1 - t).square()", "the weight data is 0 at t = 1, where the network's divisor is not"),
    matching.mutant("t / (1 - t).clamp(min=settings.elbo_floor)", "t / (1 - t)", "the weight elbo is infinite at t = 1"),
    matching.mutant("if settings.weighting != \"u\":", "if settings.weighting == \"eps\":", "the weights data and elbo are 1"),
    matching.mutant('"mean": 1 / action_size', '"mean": 1.0', "the mean loss is the sum"),
    matching.mutant('"sqrt": 1 / math.sqrt(action_size)', '"sqrt": 1 / action_size', "the reduction sqrt is the mean"),
    matching.mutant('"by_std": 2 / math.pi', '"by_std": 1.0', "the reduction by_std is not in units of the likelihood"),
    matching.mutant("errors * inverse_std.unsqueeze(1)", "errors * inverse_std.mean(dim=-1, keepdim=True).unsqueeze(1)", "the numbers of an action share one standard deviation"),
    mixture.mutant("(log_weights + of_components).softmax", "log_weights.expand_as(of_components).softmax", "the standard deviation of an action is not that of the component that made it"),
    matching.mutant("return stratified\n", "return uniform\n", "stratified times are uniform"),
    matching.mutant("/ settings.grid", "/ (settings.grid - 1)", "the grid's times reach 1"),
    matching.mutant("torch.sigmoid(-log_s)", "torch.sigmoid(log_s)", "lognormal times are mirrored"),
    path.mutant("noise + t * (action - noise)", "action + t * (noise - action)", "t = 0 is the action"),
    path.mutant("return action - noise", "return noise - action", "the target velocity points to the noise", VALUES),
    last_step.mutant("return x + (t1 - self.latest) * velocity(x, self.latest)", "return x", "the last step is left out"),
    last_step.mutant("declared + 1", "declared", "the last step's evaluation is not counted"),
    last_step.mutant("_last_evaluation(sampler) <= latest", "_last_evaluation(sampler) < 1", "a sampler may evaluate between 0.98 and 1"),
    divisors.mutant("return max(divisor, SMALLEST_DIVISOR)", "return divisor", "numbers are divided by 0 at the end of time"),
    divisors.mutant("divisor.clamp(min=SMALLEST_DIVISOR)", "divisor", "tensors are divided by 0 at the end of time"),
    # --- networks
    velocity.mutant("return -output / bounded(t)", "return (x - output) / bounded(t)", "the noise is predicted without the point: first actions of std 60"),
    velocity.mutant("bounded(1 - t)", "bounded(t)", "a predicted action is divided by t"),
    recipe.mutant("self._places_around(path) if not each.is_around), False)", "self._places_around(path)), False)", "a key of --set takes a section's other keys of its block away"),
    kept_times.mutant("len(self._values) >= MOST_TIMES", "False", "values of times fill the memory"),
    kept_times.mutant("return self._versions == _versions(weights)", "return True", "what was kept of times outlives loaded weights"),
    noise.mutant('mode if scale else "zero"', "mode", "scale 0 is noise times 0, which may be -0"),
    noise.mutant("draw.mul_(self.scale)", "draw", "the scale of the noise has no effect"),
    fitted.mutant("(place - age, weight * (t1 - t0))", "(age, weight * (t1 - t0))", "weights are of the velocities in reverse order"),
    fitted.mutant("weight * (t1 - t0)", "weight", "a fitted sampler takes the same steps between any times"),
    fitted.mutant("ends_step=place == last", "ends_step=True", "a fitted sampler adds to the point before, not to the noise"),
    fitted.mutant("list(range(1, count + 1))", "list(range(1, count + 1)) and False", "weights of any shape are taken"),
    fitted_file.mutant("or not named_code.is_of_user(source, path)", "", "a file that only a checkpoint names is opened"),
    fitted_file.mutant("if len(content.times) != content.nfe:", "if False:", "nfe may contradict the times"),
    singular_end.mutant("return max(points) / SMALLEST_DIVISOR", "return points[-1] / SMALLEST_DIVISOR", "points on the way do not count"),
    singular_end.mutant("tolerated = TOLERATED * max(1.0, trained)", "tolerated = TOLERATED", "the sampler of the training is warned of"),
    velocity.mutant("network.drop_kept()", "pass", "folded layers of former weights are used"),
    velocity.mutant("not self._folded.time_rows.are_of(_weights(self.layers.linears))", "False", "folded layers outlive loaded weights"),
    velocity.mutant("last.bias.detach() * scale", "last.bias.detach()", "the last bias is not scaled"),
    velocity.mutant("x.shape == self._form and", "", "points of another form are refused"),
    velocity.mutant("after_first(hidden) * network.settings.output_scale", "after_first(hidden)", "output_scale is ignored"),
    velocity.mutant('f"{prefix}predicts_residual" not in state_dict', "False", "weights that predict the noise itself are read as a residual"),
    velocity.mutant("1 - SMALLEST_DIVISOR if", "1.0 if", "a data network is evaluated at t = 1"),
    velocity.mutant("addmm(bias, network.mask(obs), of_obs)", "addmm(bias, obs, of_obs)", "a hidden observation is seen", "tests/networks/test_mask.py::test_no_hidden_entry_changes_an_action"),
    velocity.mutant("torch.cat([angle.cos(), angle.sin()], dim=-1)", "torch.cat([angle.sin(), angle.cos()], dim=-1)", "time features are in another order: checkpoints become other policies", VALUES),
    velocity.mutant("[2.0**k for k in range(size // 2)]", "[1.0 + k for k in range(size // 2)]", "frequencies are 1, 2, 3: checkpoints become other policies", "tests/networks/test_velocity.py"),
    gaussian.mutant("functional.softplus(spread) + smallest", "functional.softplus(spread)", "the spread may become 0"),
    gaussian.mutant("wanted = std - smallest", "wanted = std", "the first spread is a thousandth too large"),
    gaussian.mutant("0.5 * z.square() + std.log()", "0.5 * z.square() - std.log()", "the density's normalisation has the wrong sign"),
    gaussian.mutant("2 * math.pi * math.e", "2 * math.pi", "the entropy lacks half a nat a dimension"),
    mixture.mutant("dims - 1) - 0.5 *", "dims - 1) + 0.5 *", "far components weigh more"),
    mixture.mutant("squared * (t * t) + rest", "std * (t * t) + rest", "the spread of a component is not squared"),
    mixture.mutant("squared * t - rest", "squared * t", "a component's velocity forgets the noise"),
    mixture.mutant("torch.addcmul(variance.log(), away, scaled)", "(away * scaled)", "wide components weigh too much"),
    mixture.mutant("t.shape == probes and not x.requires_grad", "t.shape == probes", "a point at probes has no gradient"),
    mixture.mutant("_velocity_at_probes if at_probes else", "mixture_velocity if at_probes else", "training takes the slow gradients"),
    at_probes.mutant("weighted.sum(dim=0), value=-1)", "weighted.sum(dim=0), value=0)", "the weights of components learn as if they did not add up to 1"),
    at_probes.mutant("(gradient * rest * weights)", "(gradient * weights)", "the means learn too much near the action"),
    at_probes.mutant("add_(by_weight.sum(dim=2))", "add_(0 * by_weight.sum(dim=2))", "the means do not learn by the weights"),
    at_probes.mutant("by_weight, alpha=0.5", "by_weight, alpha=1.0", "the spread learns too much by the weights"),
    at_probes.mutant("of_squared -= 0.5 *", "of_squared -= 1.0 *", "the spread learns too much by the variance"),
    mixture.mutant("self.drop_times()  #", "pass  #", "a mixture samples with the spread of the first rollout"),
    mixture.mutant("self._log_weights - log_variance", "self._log_weights", "wide components weigh too much without gradients"),
    folding.mutant("offset=0.5 * np.log(precision)", "offset=np.log(precision)", "an export weighs narrow components too much"),
    folding.mutant("slope=(node.t * std**2", "slope=(node.t * std", "an export's component has another velocity"),
    program.mutant("outputs // self.flow.components - 1", "outputs // self.flow.components", "a mixture's logits count as an action"),
    program.mutant("x[:, None] - node.t * means", "x[:, None] - means", "an export's components do not move in time"),
    c_reader.mutant("if numbers.size != c_source.padded(outputs) * inputs:", "if False:", "a C file with too few weights is compiled"),
    c_reader.mutant(' or size["MEMORY"] < 1', "", "a C file that divides by zero is compiled"),
    contract.mutant("1 - self.left_out, method", "1 - 2 * self.left_out, method", "twice as many rows are left out"),
    contract.mutant("largest(errors) <= between", "True", "what is left out may be anything"),
    mixture.mutant("centres - centres.mean(dim=0)", "0 * centres", "all components begin equal"),
    mixture.mutant("logits.log_softmax(dim=-1)", "logits", "the weights do not add up to 1"),
    gaussian.mutant('requires_grad=settings.std != "fixed"', "requires_grad=True", "a fixed spread learns"),
    normaliser.mutant("self.scale).clamp_(-self.limit, self.limit)", "self.scale).clamp_(-self.limit, 2 * self.limit)", "large observations reach +20"),
    normaliser.mutant("self.scale).clamp_(-self.limit, self.limit)", "self.scale).clamp_(-2 * self.limit, self.limit)", "small observations reach -20"),
    normaliser.mutant("delta.square() * self.count * number / total", "0", "the shift between batches is left out of the variance"),
    normaliser.mutant("self.mean += delta * number / total", "self.mean += delta", "the mean is that of the last batch"),
    normaliser.mutant("self.sum_of_squares / self.count, 1.0", "self.sum_of_squares / (self.count - 1), 1.0", "the variance is divided by n - 1"),
    normaliser.mutant("        if self.count > 0:\n            self._refresh()", "        pass", "a loaded normaliser does not scale"),
    normaliser.mutant("        if not self.enabled:\n            return\n        rows", "        rows", "a normaliser that is not enabled learns"),
    normaliser.mutant("self.scale.copy_((self.variance + self.epsilon).rsqrt())", "self.scale.copy_(self.variance.rsqrt())", "a constant observation is divided by 0"),
    mlp.mutant("math.sqrt(3 / layer.in_features)", "math.sqrt(6 / layer.in_features)", "initial weights are larger by √2"),
    mlp.mutant("for layer in self.linears[1:-1]:", "for layer in self.linears[1:-2]:", "a hidden layer is left out"),
    mlp.mutant('"elu": (functional.elu, partial(functional.elu, inplace=True))', '"elu": (functional.elu, torch.relu_)', "elu in place is relu"),
    mlp.mutant("gain: float = math.sqrt(2)", "gain: float = 1.0", "hidden layers begin with gain 1"),
    mlp.mutant("(initialise_last or initialise)(linears[-1])", "initialise(linears[-1])", "the last layer begins as large as the others"),
    mask.mutant("obs * self.visible", "obs", "nothing is hidden"),
    critic.mutant("self.mask(obs)", "obs", "a masked critic sees everything"),
    # --- policies
    flow_policy.mutant("generator=self.noise.generator", "generator=None", "the perturbation is drawn from the global generator"),
    flow_policy.mutant("action.clamp(-self.action_limit, self.action_limit)", "action.clamp(max=self.action_limit)", "action_limit is one-sided"),
    flow_policy.mutant("self.evaluations / max(1, self.calls)", "self.evaluations", "evaluations of all calls are summed up"),
    flow_policy.mutant("settings.perturbation if training else 0.0", "settings.perturbation", "evaluation is perturbed"),
    flow_policy.mutant("last_step.for_field(sampler, field)", "sampler", "samplers evaluate predicted actions at t = 1"),
    flow_policy.mutant("action + self.perturbation * torch.randn", "action + torch.randn", "the perturbation's size is ignored"),
    flow_policy.mutant("self.field.bind(self.normaliser(obs))", "self.field.bind(obs)", "the network sees observations that are not normalised", "tests/policies/test_noise.py"),
    noise.mutant("return torch.zeros(count, self._size)", "return self._fixed.repeat(count, 1)", "zero noise is a fixed draw"),
    noise.mutant("self._fixed.repeat(count, 1)", "torch.randn(count, self._size, generator=self.generator)", "fixed noise changes"),
    noise.mutant("torch.randn(count, self._size, generator=self.generator)", "torch.randn(count, self._size)", "noise is drawn from the global generator"),
    gaussian_policy.mutant("mean + std * self.noise", "mean + self.noise", "the spread is ignored"),
    gaussian_policy.mutant("self.actor(self.normaliser(", "self.actor((", "the network sees observations that are not normalised"),
    # --- samplers
    plan.mutant("1.5 * h), (1, -0.5 * h)", "0.5 * h), (1, 0.5 * h)", "AB2 averages the last two velocities"),
    plan.mutant("return t0 + (t1 - t0) * share", "return t0 + share", "nodes forget the interval's length"),
    plan.mutant("c = sum(rows[stage - 1]) if stage else 0.0", "c = 0.0", "stages are evaluated at the beginning of their step"),
    plan.mutant("if ends_step:\n            start = x", "start = x", "stages are added up from each other"),
    plan.mutant("for j, weight in enumerate(row) if weight)", "for j, weight in enumerate(row))", "velocities of weight 0 are added"),
    plan.mutant("return 1 + max(age", "return max(age", "a velocity that is needed is forgotten"),
    plan.mutant("if type(self.steps) is not int:", "if not isinstance(self.steps, int):", "true counts as one step"),
    rk4.mutant("b=(1 / 6, 1 / 3, 1 / 3, 1 / 6)", "b=(1 / 4, 1 / 4, 1 / 4, 1 / 4)", "RK4's weights are equal"),
    heun.mutant("b=(1 / 2, 1 / 2)", "b=(0.0, 1.0)", "Heun takes its second velocity alone"),
    midpoint.mutant("b=(0.0, 1.0)", "b=(1.0, 0.0)", "midpoint is Euler"),
    ralston.mutant("2 / 3,", "1 / 2,", "Ralston's second stage is at the middle"),
    ab2.mutant("return adams_bashforth_2(self.steps, t0, t1)", "return adams_bashforth_2(self.steps + 1, t0, t1)", "AB2 takes a step too many"),
    dopri5.mutant('"norm": worst_row,', "", "an easy row dilutes a hard one's error"),
    dopri5.mutant('"first_step": abs(t1 - t0) / 10,', "", "the first step may go beyond the end"),
    dopri5.mutant("if spent == self.max_nfe:", "if spent > self.max_nfe:", "one evaluation beyond the budget"),
    dopri5.mutant('"step_t": interval[1:],', "", "the last step goes beyond the end"),
    conformance.mutant("measured >= least", "True", "a wrong order conforms"),
    conformance.mutant("return not shared,", "return True,", "a result that shares its input's memory conforms"),
    conformance.mutant("most <= 1 + 1e-6", "True", "an evaluation after t1 conforms"),
    registry.mutant("strict=True)", "strict=False)", "an option of another type is converted"),
    # --- storage
    checkpoint.mutant('content["format"] not in READABLE', 'content["format"] > FORMAT', "checkpoints of formats before the first are taken"),
    checkpoint.mutant("if id(value) in seen:", "if False:", "a container in two places is taken"),
    checkpoint.mutant("untyped_storage().nbytes() == tensor.nbytes", "untyped_storage().nbytes() > 0", "a view is saved with its whole storage"),
    checkpoint.mutant("if depth == DEPTH:", "if False:", "containers may be nested without end"),
    integrity.mutant("if data[-64:] != expected.encode():", "if False:", "damaged bytes are taken"),
    integrity.mutant("or member.flag_bits & 1", "", "encrypted members are taken"),
    integrity.mutant("member.compress_type != zipfile.ZIP_STORED or", "", "compressed members are taken"),
    integrity.mutant("sum(member.file_size for member in members) > len(data)", "False", "overlapping members are taken"),
    integrity.mutant("len({member.filename for member in members}) < len(members)", "False", "two members of one name are taken"),
    integrity.mutant("min((member.header_offset for member in members), default=0) > 0", "False", "bytes before the first member are taken"),
    integrity.mutant("(damaged := archive.testzip()) is not None", "(damaged := None) is not None", "a member's wrong CRC is taken"),
    files.mutant("if os.fstat(descriptor).st_nlink > 0:", "if True:", "a temporary file that was removed before it was locked is written to"),
    files.mutant("fcntl.LOCK_EX | fcntl.LOCK_NB)", "fcntl.LOCK_UN)", "the file of a living writer is removed"),
    files.mutant("    _sync(part)\n", "", "a new file may be empty after a power cut"),
    files.mutant("        _sync(target.parent)\n", "        pass\n", "a rename may be lost in a power cut"),
    files.mutant("shutil.copymode(target, part)", "pass", "a file's permissions are lost"),
    files.mutant("part.unlink(missing_ok=True)", "pass", "a temporary file stays after an error"),
    rng_state.mutant('twister["has_gauss"], twister["gauss"])', "0, 0.0)", "half of a pair of NumPy's Gaussian numbers is lost"),
    rng_state.mutant('torch.set_rng_state(saved["torch"])', "pass", "torch's global generator is not restored"),
    rng_state.mutant('random.setstate(saved["python"])', "pass", "Python's generator is not restored"),
    rng_state.mutant('generator.set_state(saved["generators"][name])', "pass", "a run's own generators are not restored"),
    jsonl.mutant("if number == len(lines):", "if number >= len(lines) - 1:", "a torn line that is not the last is left out without a word"),
    jsonl.mutant("return value if math.isfinite(value) else None", "return value", "metrics that are not finite stop the training"),
    jsonl.mutant("self._file.flush()", "pass", "lines are written late"),
    # --- evaluation
    episodes.mutant("self._index[ended] += len(ended)", "self._index[ended] += 1", "the first episodes to end count"),
    episodes.mutant("self._total[ended] = 0\n", "pass\n", "returns go on over the end of an episode"),
    episodes.mutant("(step.terminated | step.truncated).cpu()", "step.terminated.cpu()", "truncated episodes do not end"),
    episodes.mutant("self._length >= longest", "self._length > longest", "an endless episode ends a step late"),
    episodes.mutant("np.nan_to_num(successes, nan=0.0)", "successes[~np.isnan(successes)]", "episodes without a report are left out of the success rate"),
    episodes.mutant("1e6 * self.act_seconds", "1e3 * self.act_seconds", "microseconds are milliseconds"),
    episodes.mutant("obs = step.obs\n", "pass\n", "the policy acts on the first observation for ever"),
    statistics.mutant("x.std(ddof=1)", "x.std()", "the deviation is divided by n"),
    statistics.mutant("low = x.shape[-1] // 4", "low = x.shape[-1] // 3", "the interquartile mean is that of the middle third"),
    statistics.mutant("centre = p + z**2 / (2 * n)", "centre = p", "Wilson's interval is centred on the rate"),
    statistics.mutant("[(1 - level) / 2, (1 + level) / 2])\n    return float(low)", "[1 - level, level])\n    return float(low)", "a 95 % interval is one of 90 %"),
    statistics.mutant("low, high = max(0.0, (centre - half) / scale)", "low, high = (centre - half) / scale", "Wilson's interval may begin below 0", excuse="(centre - half) is never negative: half² ≤ centre², with equality at a rate of 0; the clamp only removes a rounding error"),
    pareto.mutant("known & ~beaten", "~beaten", "a point that is not finite is on the front"),
    pareto.mutant("(cost[:, None] <= cost)", "(cost[:, None] < cost)", "an equally dear, better point beats no other"),
    latency.mutant("order.reverse()", "pass", "a drift of the machine favours one candidate"),
    latency.mutant("last_step.for_field(sampler, flow.field)", "sampler", "samplers are graded without a policy's last step", "tests/evaluation/test_latency.py::test_samplers_of_predicted_actions_are_graded_with_the_last_step_of_a_policy"),
    latency.mutant(" / spread)", ")", "the endpoint error is not relative to the spread"),
    latency.mutant("copy.deepcopy(field).double()", "field.double()", "the benchmark changes the network's precision"),
    machine.mutant("elif cpu_share < OWN_SHARE:", "elif False:", "figures of a process that waited for the processor are called good"),
    machine.mutant("others > limit", "others > 10 * limit", "figures of a busy machine are called good"),
    # --- ratios of flows, and what is said of them
    flow_ratios.mutant("towards - distance / 2", "towards", "the Gaussian tail's ratio lacks its quadratic term"),
    flow_ratios.mutant("(actions - record[\"end\"])", "(actions - record[\"noise\"])", "the tail's ratio is about the noise, not the end"),
    flow_ratios.mutant("distance.detach().mean() / (2 * self.sigma**2)", "distance.detach().mean() / self.sigma**2", "the KL divergence is twice as large"),
    flow_ratios.mutant("new - record[\"log_probability\"]", "record[\"log_probability\"] - new", "the exact ratio is upside down"),
    density.mutant("return gaussian - total", "return gaussian + total", "the divergence has the wrong sign"),
    density.mutant("t - size / 2)\n", "t)\n", "the divergence is taken at the end of a step"),
    density.mutant("columns.permute(1, 2, 0)", "columns.permute(1, 0, 2)", "the Jacobian is transposed"),
    inversion.mutant("total = total - log_det", "total = total + log_det", "the determinant has the wrong sign"),
    inversion.mutant("reversed(range(steps))", "range(steps)", "the steps are inverted in the wrong order"),
    matching.mutant("torch.cat([noise, -noise], dim=1)", "torch.cat([noise, noise], dim=1)", "pairs have the same noise", FLOW_RATIOS),
    matching.mutant("1 - times if settings.antithetic == \"mirrored\" else times", "times", "mirrored times are the same", FLOW_RATIOS),
    matching.mutant("own[:, 0] = noise\n", "pass\n", "no probe has the noise of the action", FLOW_RATIOS),
    ratio.mutant("self.anchor * mean_loss if self.anchor else None", "None", "the anchor is not added", FLOW_RATIOS),
    noise.mutant("math.sqrt(1 - self.correlation**2) * fresh", "fresh", "correlated noise has too much variance", FLOW_RATIOS),
    noise.mutant("self.last[rows] = math.nan", "pass", "correlated noise goes on over episodes", FLOW_RATIOS),
    mlp.mutant("hidden + layer(self._activation(norm(hidden)))", "layer(self._activation(norm(hidden)))", "there is no residual connection", "tests/networks/test_residual.py"),
    statistics.mutant("deviation(runs) ** 2 / len(runs)", "deviation(runs) ** 2", "the detectable difference ignores the number of runs", COMPARISON),
    compared.mutant("row.difference_ci95[0] >= least", "row.difference >= least", "a choice is proposed on its mean alone"),
    compared.mutant("return min(good, key=rank)", "return max(good, key=rank)", "the slowest choice is proposed"),
    gate.mutant("gates.append(cls(5e5 / hz", "gates.append(cls(1e6 / hz", "the gate of a rate is its whole period"),
    gate.mutant("row[P99] < least[key][P99]", "row[P99] > least[key][P99]", "the slowest of repeated measurements counts"),
    # --- envs/adapter
    adapter.mutant("successor = obs.index_copy(0, outcome.ended, last)", "successor = obs", "the successor of a last step is the restart"),
    actions.mutant('torch.tanh(action) if self.squash == "tanh"', 'torch.tanh(action) if self.squash == "clip"', "the squashings are swapped"),
    actions.mutant("np.where(bounded, (low + high) / 2", "np.where(bounded, low", "actions are centred on the lower bound"),
    actions.mutant("(high - low) / 2, 1.0", "(high - low), 1.0", "actions are scaled twice too far"),
    actions.mutant("torch.where(self.bounded, squashed, action)", "squashed", "unbounded actions are squashed"),
    adapter.mutant("self._steps += 1", "pass", "steps are not counted"),
    tensors.mutant("values[self.ended] =", "values[:] =", "a judgement counts for episodes that go on"),
    capture.mutant('return {"kind": "array", "value": value.copy()}', 'return {"kind": "array", "value": value}', "a captured state changes with the environment"),
    capture.mutant("np.may_share_memory(array, other)", "False", "arrays that share memory are separated by a resume"),
    capture.mutant('return {"kind": "same", "number": self.seen[id(value)]}', 'return {"number": -1} | self._encode(value)', "one object becomes two"),
]  # fmt: skip
