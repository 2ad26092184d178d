"""A shard of a run: environments, noise and a policy that acts with both, with random generators of their own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from flowrl.config.schema import Config
from flowrl.config.yaml_reader import shorten
from flowrl.contracts.errors import CheckpointError, EnvironmentFailed
from flowrl.envs import factory, saved_state
from flowrl.envs.adapter import Adapter
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.storage import rng_state
from flowrl.storage.rng_state import OwnGenerators
from flowrl.training.rollout import Collector


class Shard:
    """One of the equal parts of a run: its environments, its noise, and the collector that acts in them.

    The only shard of a run draws from the global generators of the process, which the seed of the run has set. One of
    several has global generators of its own, so that it does not matter which of them share a process.
    """

    def __init__(self, config: Config, number: int, env_threads: int | None = None) -> None:
        """Make the environments of shard `number` of a run of `config`, stepped by `env_threads` threads where that is
        given."""
        words = np.random.SeedSequence(config.seed)
        if config.shards > 1:
            words = words.spawn(config.shards)[number]
        self.learner_seed, self.noise_seed, self._env_seed, own = words.generate_state(4).tolist()
        self.generators = None if config.shards == 1 else OwnGenerators(own)
        settings = config.env
        if env_threads is not None:
            settings = settings.model_copy(update={"threads": env_threads})
        with self.own_generators():
            self.env: Adapter = factory.make(settings, count=config.env.count // config.shards)
        self.noise = Noise(
            self.env.action_size, "random", self.noise_seed, correlation=config.rollout.noise_correlation
        )
        self._stagger = config.rollout.stagger
        self.collector: Collector

    def own_generators(self) -> AbstractContextManager[object]:
        """Return the context in which its environments and its policy are called."""
        return nullcontext() if self.generators is None else self.generators

    def act_with(self, policy: Policy) -> Collector:
        """Return the collector of this shard, in which `policy` acts with its noise."""
        self.collector = Collector(policy, self.env, self.generators)
        return self.collector

    def start(self) -> None:
        """Reset the environments, for a new run."""
        self.collector.start(self._env_seed, stagger=self._stagger)

    def state(self, draws: torch.Generator) -> dict[str, Any]:
        """Return the state of the shard for a checkpoint; `draws` is its generator of minibatches and probes."""
        with self.own_generators():
            env = self.env.state()
            random = rng_state.state(noise=self.noise.generator)
        return {
            "generator": draws.get_state(),
            "episodes": self.collector.episodes.state_dict(),
            "env": env,
            "random": random if self.generators is None else random | {"cuda": []},
            **({} if self.noise.last is None else {"last_noise": self.noise.last}),
        }

    def restore(self, saved: dict[str, Any]) -> list[str]:
        """Restore the state that `state` returned, but for the generator of minibatches and probes, and return why the
        shard does not continue bit for bit.

        An environment whose state was not saved, or was saved in another `env.mode`, starts new episodes.
        """
        reasons = []
        env, episodes = saved["env"], saved["episodes"]
        if env["envs"] is not None and isinstance(env["envs"], list) is self.env.native:
            env = env | {"envs": None}
            reasons.append("new episodes begin, for the running ones were saved in another env.mode")
        if self.generators is not None:
            self.generators.saved = saved["random"]
        with self.own_generators():
            self._restore_env(env)
        if env["envs"] is None:  # the running episodes are lost; the count of ended ones goes on
            episodes = {"ended": episodes["ended"]}
        self.collector.episodes.load_state_dict(episodes)
        if self.generators is None:
            rng_state.restore(saved["random"], noise=self.noise.generator)
        else:
            self.generators.saved = saved["random"]
            self.noise.generator.set_state(saved["random"]["generators"]["noise"])
        self.noise.last = None if env["envs"] is None else saved.get("last_noise")
        if self.noise.correlation and self.noise.last is None:
            reasons.append("the noise begins again, for that of the running episodes is not known")
        return reasons

    def _restore_env(self, saved: dict[str, Any]) -> None:
        """Let the environments continue from their `saved` state; raises CheckpointError when they cannot."""
        try:
            if self.env.native and saved["envs"] is not None:
                saved_state.check_alike(saved["envs"], self.env.state()["envs"])
            self.collector.obs = self.env.restore(saved)
        except (ValueError, EnvironmentFailed) as error:
            reason = shorten(str(error), 400).removesuffix(".")
            raise CheckpointError(
                f"the environments cannot continue from their state in the checkpoint: {reason}. It was changed by "
                "hand, or saved with another version of the environment: train again."
            ) from error
