"""The composition root: creates a run from a configuration, and a policy from a checkpoint."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from flowrl import __version__
from flowrl.config.policy_kinds import POLICY_KINDS, PolicyKind, uses_sampler
from flowrl.config.recipe import Recipe
from flowrl.config.schema import Config
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.envs import factory
from flowrl.envs.adapter import Adapter
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.samplers import registry
from flowrl.storage import checkpoint, rng_state
from flowrl.training.learner import Learner
from flowrl.training.loop import Best, Training
from flowrl.training.ratio import RatioEstimator


def prepare_process(config: Config) -> None:
    """Set torch's number of threads and seed every global generator."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed % 2**32)  # noqa: NPY002  environments may draw from the global generator
    random.seed(config.seed)


def device_of(config: Config) -> torch.device:
    """Return the device of `config`; raises UsageError for a GPU that PyTorch does not find."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device cuda: PyTorch finds no usable GPU here. Type --device cpu, or install a CUDA build of torch."
        )
    return torch.device(config.device)


def kind_of(config: Config) -> PolicyKind:
    """Return the `PolicyKind` of the policy that `config` asks for."""
    return POLICY_KINDS[config.policy.kind]


def make_actor(config: Config, observation_size: int, action_size: int, visible: Tensor | None = None) -> nn.Module:
    """Create the policy's network with new weights; it sees what is `visible` (observation,) bool; None: all."""
    return kind_of(config).network(observation_size, action_size, config.policy, visible)


def make_ratio_estimator(actor: nn.Module, config: Config) -> RatioEstimator:
    """Create the ratio estimator of the policy's kind, which compares `actor` with itself before an update."""
    return kind_of(config).ratio_estimator(actor, config.learner)


def make_policy(actor: nn.Module, normaliser: Normaliser, config: Config, noise: Noise, *, training: bool) -> Policy:
    """Create the policy that acts with `actor`; the training perturbation is added only when `training`."""
    kind = kind_of(config)
    sampler = registry.make(config.sampler.name, config.sampler.options()) if kind.uses_sampler else None
    return kind.policy(actor, normaliser, noise, config.policy, sampler, training)


def check_sampler(config: Config, source: Recipe) -> None:
    """Raise UsageError when the sampler of `config` cannot be created; a policy that uses none always passes.

    `source` is the composed recipe of `config`; the error names the place there of what is wrong.
    """
    if not kind_of(config).uses_sampler:
        return
    try:
        registry.make(config.sampler.name, config.sampler.options())
    except registry.SamplerRefused as error:
        path = ("sampler",) if error.key is None else ("sampler", error.key)
        raise UsageError(f"{source.place(path)}: {error}") from error


def newest_flow_run() -> Path | None:
    """Return the run folder under ./runs that saved last and whose policy is a flow; None when there is none."""
    for folder in checkpoint.run_folders(checkpoint.RUNS):
        with suppress(CheckpointError):
            if uses_sampler(checkpoint.load(folder / checkpoint.LATEST)["config"]):
                return folder
    return None


class Run:
    """A training run: configuration, environments, policy, learner and progress."""

    def __init__(self, config: Config) -> None:
        prepare_process(config)
        device = device_of(config)
        seeds = np.random.SeedSequence(config.seed).generate_state(3).tolist()
        learner_seed, noise_seed, self._env_seed = seeds
        self.config = config
        self.env: Adapter = factory.make(config.env)
        size, action_size = self.env.observation_size, self.env.action_size
        visible = self.env.policy_mask
        actor = make_actor(config, size, action_size, visible).to(device)
        critic_visible = visible if config.learner.critic_goal == "masked" else None
        critic = Critic(size, config.learner.critic, critic_visible).to(device)
        normaliser = Normaliser(size, enabled=config.learner.normalise_observations).to(device)
        steps_per_update = self.env.count * config.rollout.steps
        updates = -(-config.total_steps // steps_per_update)
        estimator = make_ratio_estimator(actor, config)
        learner = Learner(estimator, critic, normaliser, config.learner, updates, learner_seed)
        self.noise = Noise(action_size, "random", noise_seed)
        policy = make_policy(actor, normaliser, config, self.noise, training=True)
        self.training = Training(policy, self.env, learner, config.rollout.steps, config.total_steps)
        self.best = Best()

    def start(self) -> None:
        """Start a new run: reset the environments."""
        self.training.start(self._env_seed)
        if self.config.rollout.stagger:
            self.training.episodes.counted = self.env.stagger() == 0

    def content(self, metrics_offset: int) -> dict[str, Any]:
        """Return all that a bit-exact resume needs, as plain values and tensors, for `checkpoint.save`."""
        env, noise = self.env, self.noise.generator
        return {
            "config": self.config.model_dump(mode="json"),
            "sizes": {"observation": env.observation_size, "action": env.action_size},
            "progress": self.training.progress() | asdict(self.best),
            **self.training.learner.state_dict(),
            "episodes": self.training.episodes.state_dict(),
            "env": env.state(),
            "random": rng_state.state(noise=noise),
            "metrics_offset": metrics_offset,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Restore the state that `content` returned; raises CheckpointError when it does not fit the networks.

        An environment whose state was not saved starts new episodes: the resume is then inexact.
        """
        try:
            self.training.learner.load_state_dict(content)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit its configuration: {str(error).splitlines()[0]} It was changed by hand "
                "or saved by another version; train again, or use the version that saved it."
            ) from error
        self.training.set_progress(content["progress"])
        self.best = Best(**{field.name: content["progress"][field.name] for field in fields(Best)})
        self.training.obs = self.env.restore(content["env"])
        episodes = content["episodes"]
        if content["env"]["envs"] is None:  # the running episodes are lost; the count of ended ones goes on
            episodes = {"ended": episodes["ended"]}
        self.training.episodes.load_state_dict(episodes)
        rng_state.restore(content["random"], noise=self.noise.generator)


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy loaded from a checkpoint."""

    policy: Policy
    config: Config
    observation_size: int
    action_size: int


def load_config(content: dict[str, Any]) -> Config:
    """Return the configuration in a checkpoint's `content`; raises CheckpointError for one of another version."""
    try:
        return Config.model_validate(content["config"])
    except ValidationError as error:
        raise CheckpointError(
            f"the configuration in the checkpoint (saved by flowrl {content.get('flowrl')}) is not one of this "
            f"flowrl {__version__}: {error.errors()[0]['msg']}. Use the version that saved it."
        ) from error


def refuse_file_sampler(config: Config, origin: Path, remedy: str) -> None:
    """Raise UsageError when the sampler in a checkpoint is a Python file, which would be run.

    A checkpoint may come from an untrusted source; a file is run only when the user names it.
    """
    if ".py:" in config.sampler.name:
        raise UsageError(
            f"{origin}: the run's sampler is the file {config.sampler.name}. A checkpoint may come from anyone, so "
            f"flowrl runs that file only when you name it: {remedy} (look at it first)."
        )


def load_policy(
    content: dict[str, Any], config: Config, seed: int = 0, named_sampler: str | None = None
) -> LoadedPolicy:
    """Load the policy in a checkpoint's `content`, with the sampler and noise mode of `config`.

    Uses the moving average of the weights where the run kept one, but for best.pt, which was chosen by the returns of
    the weights that acted. Raises CheckpointError when the weights do not fit,
    and UsageError when the sampler is a Python file that is not the `named_sampler`, the one that the user has named.
    """
    if config.sampler.name != named_sampler:
        name = config.sampler.name
        refuse_file_sampler(config, Path("the checkpoint"), f"flowrl eval CKPT --sampler {name} runs it")
    sizes = content["sizes"]
    acting = content.get("evaluation_weights") == "actor"
    weights = content["actor"] if acting else content["average"] or content["actor"]
    actor = make_actor(config, sizes["observation"], sizes["action"], weights.get("mask.visible"))
    normaliser = Normaliser(sizes["observation"], enabled=config.learner.normalise_observations)
    try:
        actor.load_state_dict(weights)
        normaliser.load_state_dict(content["normaliser"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint's weights do not fit its configuration: {str(error).splitlines()[0]}"
        ) from error
    device = device_of(config)
    actor.requires_grad_(False).to(device)
    normaliser.to(device)
    draws = Noise(sizes["action"], config.noise, seed)
    policy = make_policy(actor, normaliser, config, draws, training=False)
    return LoadedPolicy(policy, config, sizes["observation"], sizes["action"])
