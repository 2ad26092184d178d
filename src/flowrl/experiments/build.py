"""The composition root: creates a run from a configuration, and a policy from a checkpoint."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from flowrl import __version__
from flowrl.config import named_code, validation
from flowrl.config.policy_kinds import POLICY_KINDS, PolicyKind, uses_sampler
from flowrl.config.recipe import Recipe
from flowrl.config.schema import Config
from flowrl.config.yaml_reader import KeyPath, dotted, shorten
from flowrl.contracts import user_code
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.contracts.notices import say
from flowrl.envs import factory, lookup, saved_state
from flowrl.envs.adapter import Adapter
from flowrl.experiments import code_record, graphs, memory, saved_networks
from flowrl.experiments.shard import Shard, env_threads, refuse_unlike, shared_states
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.samplers import registry
from flowrl.storage import checkpoint, platform
from flowrl.storage.value_checks import described
from flowrl.training.learner import Learner
from flowrl.training.loop import Best, Training
from flowrl.training.ratio import RatioEstimator
from flowrl.training.shards import Shards

SAMPLER = ("sampler", "name")


def prepare_process(config: Config) -> None:
    """Set torch's number of threads and seed every global generator. Raises UsageError for too many threads."""
    memory.check_threads("threads=", config.threads)
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
            "device cuda: PyTorch finds no usable GPU here. Type --set device=cpu, or install a CUDA build of torch."
        )
    return torch.device(config.device)


def env_mode(config: Config) -> str:
    """Return `env.mode` of `config` with `auto` resolved: sync, async or batch."""
    way = factory.way(lookup.find(config.env.id), config.env, None)
    return "batch" if way == "own" else way


def on_available_device(config: Config, path: Path) -> Config:
    """Return the configuration of the checkpoint `path` with a device that is here, for its policy to act on.

    Prints a line where that is the CPU instead of the GPU of the training.
    """
    if config.device != "cuda" or torch.cuda.is_available():
        return config
    say(f"{path} was trained on a GPU (device: cuda), and PyTorch finds none here: its policy acts on the CPU.")
    return config.model_copy(update={"device": "cpu"})


def kind_of(config: Config) -> PolicyKind:
    """Return the `PolicyKind` of the policy that `config` asks for."""
    return POLICY_KINDS[config.policy.kind]


def make_actor(config: Config, observation_size: int, action_size: int, visible: Tensor | None = None) -> nn.Module:
    """Create the policy's network with new weights; it sees what is `visible` (observation,) bool; None: all."""
    memory.check_policy(config, observation_size, action_size)
    return kind_of(config).network(observation_size, action_size, config.policy, visible)


def make_ratio_estimator(actor: nn.Module, config: Config) -> RatioEstimator:
    """Create the ratio estimator of the policy's kind, which compares `actor` with itself before an update."""
    return kind_of(config).ratio_estimator(actor, config.learner, config.policy)


def make_policy(actor: nn.Module, normaliser: Normaliser, config: Config, noise: Noise, *, training: bool) -> Policy:
    """Create the policy that acts with `actor`; the training perturbation is added only when `training`."""
    kind = kind_of(config)
    sampler = registry.make(config.sampler.name, config.sampler.options()) if kind.uses_sampler else None
    return kind.policy(actor, normaliser, noise, config.policy, sampler, training, config.sampler.name)


def import_code(config: Config, origin: str = "", keys: tuple[KeyPath, ...] = named_code.KEYS) -> None:
    """Import what `config` says, after a check that the user has named all the code in it that will be run.

    `origin` is the file that the configuration comes from, and `keys` are those whose code will be run. Raises
    UsageError, with what to type, for code that the user has not named.
    """
    if not kind_of(config).uses_sampler:
        keys = tuple(key for key in keys if key != SAMPLER)
    if wanted := named_code.unnamed(config.model_dump(mode="json"), keys):
        raise UsageError(user_code.refusal(wanted, origin))
    if named_code.IMPORTS in keys:
        for text in config.imports:
            user_code.load(text, "imports")


def check_sampler(config: Config, source: Recipe) -> None:
    """Raise UsageError when the sampler of `config` cannot be created; a policy that uses none always passes.

    `source` is the composed recipe of `config`; the error names the place there of what is wrong.
    """
    if not kind_of(config).uses_sampler:
        return
    try:
        registry.make(config.sampler.name, config.sampler.options())
    except registry.SamplerRefused as error:
        path = SAMPLER[:1] if error.key is None else (*SAMPLER[:1], error.key)
        raise UsageError(f"{source.place(path)}: {error}") from error


def newest_flow_run() -> tuple[Path, dict[str, Any]] | None:
    """Return the trained run under ./runs that saved last and whose policy is a flow, and its plain configuration;
    None when there is none."""
    for folder in checkpoint.run_folders(checkpoint.RUNS):
        with suppress(CheckpointError):
            content = checkpoint.load(folder / checkpoint.LATEST)
            if uses_sampler(content["config"]) and content["progress"]["env_steps"]:
                return folder, content["config"]
    return None


class Run:
    """A training run: configuration, environments, policy, learner and progress."""

    def __init__(self, config: Config, shards: Shards | None = None) -> None:
        """Make all of a run but its folder; of its `shards`, default: all, those that this process holds."""
        import_code(config)
        self.config, self.shards = config, Shards(config.shards) if shards is None else shards
        memory.check_environments(config, self.shards.processes)
        prepare_process(config)
        device = device_of(config)
        self.held: list[Shard] = []  # the own ones
        threads = env_threads(config, self.shards)
        try:
            for number in self.shards.own:
                self.held.append(Shard(config, number, threads))
            size, action_size = self.env.observation_size, self.env.action_size
            memory.check_training(config, size, action_size, self.shards.processes)
        except BaseException:
            self.close()
            raise
        visible = self.env.policy_mask
        actor = make_actor(config, size, action_size, visible).to(device)
        critic_visible = visible if config.learner.critic_goal == "masked" else None
        critic = Critic(size, config.learner.critic, critic_visible).to(device)
        normaliser = Normaliser(size, enabled=config.learner.normalise_observations).to(device)
        updates = -(-config.total_steps // (config.env.count * config.rollout.steps))
        estimator, seeds = make_ratio_estimator(actor, config), [shard.learner_seed for shard in self.held]
        learner = Learner(estimator, critic, normaliser, config.learner, updates, seeds, shards=self.shards)
        policies = [make_policy(actor, normaliser, config, shard.noise, training=True) for shard in self.held]
        for policy in policies if estimator.generation else ():
            policy.keep = estimator.generation  # type: ignore[attr-defined]  # of a flow, whose ratios alone ask
        collectors = [shard.act_with(policy) for shard, policy in zip(self.held, policies, strict=True)]
        self.training = Training(collectors, learner, config.rollout.steps, config.total_steps, self.shards)
        graphs.record(config, self.training, device)
        self.best = Best()
        self.code = code_record.digests(config.model_dump(mode="json"))  # of what was loaded
        self.initial_weights: dict[str, Any] | None = None  # where they come from, if not from the seed
        self.platform = platform.platform_of(device, env_mode(config))
        refuse_unlike(self.shards, self.platform)

    @property
    def env(self) -> Adapter:
        """The environments of the first of the own shards; those of the others are like them."""
        return self.held[0].env

    def start(self) -> None:
        """Start a new run: reset the environments."""
        for shard in self.held:
            shard.start()

    def close(self) -> None:
        """Close the environments."""
        for shard in self.held:
            shard.env.close()

    def content(self, metrics_offset: int) -> dict[str, Any]:
        """Return all that a bit-exact resume needs, as plain values and tensors, for `checkpoint.save`.

        With several processes all of them call it, in the same iteration: each gives the state of its shards.
        """
        learned = self.training.learner.state_dict()
        del learned["generators"]
        together = zip(self.held, self.training.learner.generators, strict=True)
        return {
            "config": self.config.model_dump(mode="json"),
            "sizes": {"observation": self.env.observation_size, "action": self.env.action_size},
            "progress": self.training.progress() | asdict(self.best),
            **learned,
            "shards": shared_states(self.shards, [shard.state(draws) for shard, draws in together], learned),
            "interface": self.env.interface,
            "platform": self.platform,
            "metrics_offset": metrics_offset,
            **({"code": self.code} if self.code else {}),
            **({} if self.initial_weights is None else {"initial_weights": self.initial_weights}),
        }

    def restore(self, content: dict[str, Any]) -> str:
        """Restore the state that `content` returned, and return why the run does not continue bit for bit, or ''.

        An environment whose state was not saved, or was saved in another `env.mode`, starts new episodes. Raises
        CheckpointError when the content does not fit the networks.
        """
        own = [content["shards"][number] for number in self.shards.own]
        try:
            self.training.learner.load_state_dict(content | {"generators": [saved["generator"] for saved in own]})
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit its configuration: {str(error).splitlines()[0]} It was changed by hand "
                "or saved by another version; train again, or use the version that saved it."
            ) from error
        self.initial_weights = content.get("initial_weights")
        self.training.set_progress(content["progress"])
        self.best = Best(**{field.name: content["progress"][field.name] for field in fields(Best)})
        if content["config"].get("checkpoint", {}).get("best_over") != self.config.checkpoint.best_over:
            self.best = replace(self.best, window_return=0.0, window_episodes=0)  # windows of one length are compared
        reasons = platform.differences(platform.recorded(content), self.platform)
        for shard, saved in zip(self.held, own, strict=True):
            reasons += shard.restore(saved)
        return "; ".join(dict.fromkeys(reasons))


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy loaded from a checkpoint."""

    policy: Policy
    config: Config
    observation_size: int
    action_size: int


def load_config(content: dict[str, Any], path: Path) -> Config:
    """Return the configuration in the content of the checkpoint `path`, after a check that the content fits it.

    Files of the user's code that the `content` names get the names by which the user has named them.

    Raises CheckpointError for a configuration of another version, and for weights of other networks, before anything
    of the sizes in them is allocated.
    """
    named_code.find_named_files(content)
    values = content["config"]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        first, *others = validation.messages(Config, values, error)
        more = f" And {len(others)} more." if others else ""
        raise CheckpointError(
            f"{path} cannot be used: its key {dotted(('config', *first.path))}: {first}{more} It was saved by flowrl "
            f"{content['flowrl']}, and this is flowrl {__version__}: use the version that saved it."
        ) from error
    try:
        _check_fit(content, config)
    except (ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} cannot be used: {shorten(str(error), 400)}. It was changed by hand or saved by another version "
            f"(flowrl {content['flowrl']}, and this is {__version__}): use the version that saved it, or train again."
        ) from error
    return config


def _check_fit(content: dict[str, Any], config: Config) -> None:
    """Raise ValueError or RuntimeError unless the state in `content` is one of a run of `config`."""
    sizes, shards = content["sizes"], content["shards"]
    if len(shards) != config.shards:
        raise ValueError(f"its key 'shards' is {described(shards)}, and its config.shards {config.shards}")
    for number, shard in enumerate(shards):
        _check_shard(shard, config, f"shards.{number}")
    with torch.device("meta"):  # where tensors have shapes and no memory
        visible = torch.empty(sizes["observation"])
        actor, critic = (visible if "mask.visible" in content[name] else None for name in ("actor", "critic"))
        network = kind_of(config).network(sizes["observation"], sizes["action"], config.policy, actor)
        if (check_form := getattr(network, "check_form", None)) is not None:
            check_form(content["actor"])
        saved_networks.check(
            content,
            network,
            Critic(sizes["observation"], config.learner.critic, critic),
            averaged=config.learner.ema_decay is not None,
        )


def _check_shard(shard: dict[str, Any], config: Config, at: str) -> None:
    """Raise ValueError unless the environments and generators of the `shard` at the key `at` are of `config`."""
    env, expected = shard["env"], {"id": config.env.id, "count": config.env.count // config.shards}
    for key, configured in expected.items():
        if env[key] != configured:
            raise ValueError(
                f"its key '{at}.env.{key}' is {described(env[key])}, and its config.env.{key} gives {configured!r}"
            )
    if "noise" not in shard["random"]["generators"]:
        raise ValueError(f"its key '{at}.random.generators.noise' is missing")
    saved_state.check(env["envs"], env["count"], f"{at}.env.envs")
    saved_state.check(env.get("statistics"), env["count"], f"{at}.env.statistics", gaps=True)


def saved_recipe(config: Config, path: Path) -> Recipe:
    """Return the configuration of the checkpoint `path` as a recipe, for options of the command line to change."""
    return Recipe(str(path), config.model_dump(mode="json"), checkpoint=str(path))


def load_policy(path: Path, content: dict[str, Any], config: Config, seed: int = 0) -> LoadedPolicy:
    """Load the policy in the content of the checkpoint `path`, with the sampler and the noise of `config`.

    Uses the moving average of the weights where the run kept one, but for best.pt, which was chosen by the returns of
    the weights that acted. Raises CheckpointError when the weights do not fit, and UsageError when the sampler is code
    that the user has not named.
    """
    import_code(config, str(path), (SAMPLER,))
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
            f"{path}: the weights do not fit the configuration: {str(error).splitlines()[0]} Options of the command "
            "line cannot change the networks."
        ) from error
    device = device_of(config)
    actor.requires_grad_(False).to(device)
    normaliser.to(device)
    draws = Noise(sizes["action"], config.noise, seed, config.noise_scale)
    policy = make_policy(actor, normaliser, config, draws, training=False)
    return LoadedPolicy(policy, config, sizes["observation"], sizes["action"])
