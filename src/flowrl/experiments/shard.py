"""A shard of a run: environments, noise and a policy that acts with both, with random generators of their own."""

from __future__ import annotations

import hashlib
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowrl.config.schema import Config
from flowrl.config.yaml_reader import shorten
from flowrl.contracts.errors import CheckpointError, EnvironmentFailed, UsageError
from flowrl.envs import factory, saved_state
from flowrl.envs.adapter import Adapter
from flowrl.evaluation import machine
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.storage import platform, rng_state
from flowrl.storage.rng_state import OwnGenerators
from flowrl.training.learner import Learner
from flowrl.training.rollout import Collector
from flowrl.training.shards import Shards


class Shard:
    """One of the equal parts of a run: its environments, its noise, and the collector that acts in them.

    The only shard of a run draws from the global generators of the process, which the seed of the run has set. One of
    several has global generators of its own, so that it does not matter which of them share a process.
    """

    def __init__(self, config: Config, number: int, env_threads: int | None = None) -> None:
        """Make the environments of shard `number` of a run of `config`, stepped by `env_threads` threads where that is
        given."""
        self.number = number
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

        An environment whose state was not saved, or was saved in another `env.mode` or `env.simulator`, starts new
        episodes.
        """
        reasons = []
        env, episodes = saved["env"], saved["episodes"]
        if env["envs"] is not None and isinstance(env["envs"], list) is self.env.native:
            env = env | {"envs": None}
            reasons.append("new episodes begin, for the running ones were saved in another env.mode")
        if env["envs"] is not None and env.get("simulator", "mujoco") != self.env.simulator:
            env = env | {"envs": None}
            reasons.append("new episodes begin, for the running ones were saved with another env.simulator")
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
                saved_state.check_alike(saved["envs"], self.env.state()["envs"], f"shards.{self.number}.env.envs")
            self.collector.obs = self.env.restore(saved)
        except (ValueError, EnvironmentFailed) as error:
            reason = shorten(str(error), 400).removesuffix(".")
            raise CheckpointError(
                f"the environments cannot continue from their state in the checkpoint: {reason}. It was changed by "
                "hand, or saved with another version of the environment: train again."
            ) from error


def env_threads(config: Config, shards: Shards) -> int | None:
    """Return the number of simulation threads of each shard where `env.threads` leaves it open and several processes
    share the cores of a machine; None: as `env.threads` says."""
    if shards.processes == 1 or config.env.threads:
        return None
    own = (socket.gethostname(), machine.cores())
    places = shards.gather([own])
    sharing = [cores for host, cores in places if host == own[0] and set(cores) & set(own[1])]
    return max(1, len(own[1]) // len(sharing))


def refuse_unlike(shards: Shards, own: dict[str, Any]) -> None:
    """Raise UsageError when the processes run on platforms that round differently; `own` is that of this process."""
    first, *others = shards.gather([own])
    for number, other in enumerate(others, start=1):
        for key, name in platform.NAMES.items():
            if other[key] != first[key]:
                raise UsageError(
                    f"the processes of a training must compute alike to the last bit, and the {name} of process "
                    f"{number} is {other[key]}, that of process 0 {first[key]}: use machines and installations that "
                    "are alike."
                )


def share_weights(shards: Shards, learner: Learner) -> None:
    """Let the learner of every process begin with the weights and statistics of the first one's."""
    if shards.processes == 1:
        return
    networks = {"actor": learner.actor, "critic": learner.critic, "normaliser": learner.normaliser}
    networks |= {} if learner.average is None else {"average": learner.average}
    states = shards.from_first({name: dict(network.state_dict()) for name, network in networks.items()})
    for name, network in networks.items():
        network.load_state_dict(states[name])


def shared_states(shards: Shards, states: list[dict[str, Any]], learned: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the states of all shards; `states` are those of the own ones.

    Raises UsageError unless all processes have `learned` the same, to the last bit.
    """
    digest = "" if shards.processes == 1 else _digest({name: learned[name] for name in ("actor", "critic")})
    found = shards.gather([(state, digest) for state in states])
    if any(other != found[0][1] for _, other in found):
        raise UsageError(
            "the weights of the processes differ, so that their machines do not compute alike to the last bit: use "
            "machines with the same processors and installations, and continue from the last checkpoint."
        )
    return [state for state, _ in found]


def _digest(weights: dict[str, dict[str, Tensor]]) -> str:
    data = hashlib.sha256()
    for network in weights.values():
        for tensor in network.values():
            data.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return data.hexdigest()
