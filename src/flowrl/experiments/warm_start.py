"""A warm start: a new run begins with the weights and observation statistics of a checkpoint (`init_from`).

The optimiser, its schedule, the random numbers and the progress are the new run's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowrl.config import resume, validation
from flowrl.config.recipe import Place, Recipe
from flowrl.config.schema import Config
from flowrl.config.yaml_reader import KeyPath, dotted
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.contracts.notices import say
from flowrl.envs.adapter import Adapter
from flowrl.experiments import build
from flowrl.experiments.build import Run
from flowrl.storage import checkpoint

KEY = ("init_from",)
MASK = "mask.visible"  # in the weights of a network that does not see all of an observation
STEPPING = ("count", "mode", "threads", "timeout_s")  # keys of `env` without effect on the task
CRITIC_KEYS: tuple[KeyPath, ...] = (
    ("learner", "critic", "hidden"),
    ("learner", "critic", "activation"),
    ("learner", "reward_scale"),  # the unit of the returns that it has learned
)
_MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class InitialWeights:
    """The checkpoint that a new run begins with."""

    place: str  # where the recipe names it, for messages
    path: Path
    sha256: str
    content: dict[str, Any]
    config: Config

    @property
    def title(self) -> str:
        """'runs/a/ckpt.pt (fpo on flowrl/GridWorld-v0, 98,304 env steps)'"""
        steps = self.content["progress"]["env_steps"]
        return f"{self.path} ({self.config.algorithm} on {self.config.env.id}, {steps:,} env steps)"


def read(config: Config, source: Recipe | None = None) -> InitialWeights | None:
    """Read the checkpoint that `config.init_from` names; None where it names none.

    `source` is the recipe of `config`, for the place in messages. Raises CheckpointError for a checkpoint that cannot
    be read, and UsageError, with both values, when its policy has another network.
    """
    if config.init_from is None:
        return None
    place = str(Place("the recipe", None, KEY) if source is None else source.place(KEY))
    try:
        path = checkpoint.find(config.init_from)
        content, sha256 = checkpoint.load_with_digest(path)
        initial = InitialWeights(place, path, sha256, content, build.load_config(content, path))
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {error}") from error
    _refuse_other_networks(config, initial)
    return initial


def check_environment(initial: InitialWeights, env: Adapter) -> None:
    """Raise UsageError unless the networks of `initial` fit the observations and actions of `env`."""
    saved = (initial.content["sizes"]["observation"], initial.content["sizes"]["action"])
    if saved != (env.observation_size, env.action_size):
        raise UsageError(
            f"{initial.place}: {env.settings.id} has {env.observation_size} observation and {env.action_size} action "
            f"numbers, and the networks of {initial.path} take {saved[0]} and {saved[1]}. Name a checkpoint of an "
            "environment of the same sizes, or leave init_from out."
        )
    if not _same_mask(initial.content["actor"], env.policy_mask):
        raise UsageError(
            f"{initial.place}: {env.settings.id} hides other numbers of the observation from the policy than the "
            f"environment of {initial.path} did. Train with the same goal, or leave init_from out."
        )


def begin(run: Run, initial: InitialWeights) -> None:
    """Give a new `run` the weights and statistics of `initial`, and print one line that says what it begins with.

    The critic begins with new weights where its network, the unit of its rewards or what it sees has changed. A moving
    average begins at that of the checkpoint, or, where that has none, at its weights.
    """
    check_environment(initial, run.env)
    learner, content = run.training.learner, initial.content
    learner.actor.load_state_dict(content["actor"])
    learner.normaliser.load_state_dict(content["normaliser"])
    if learner.average is not None:
        learner.average.load_state_dict(content["average"] or content["actor"])
    new_critic = _why_new_critic(run, initial)
    if not new_critic:
        learner.critic.load_state_dict(content["critic"])
    run.initial_weights = {
        "path": str(initial.path),
        "sha256": initial.sha256,
        "algorithm": initial.config.algorithm,
        "env": initial.config.env.id,
        "env_steps": content["progress"]["env_steps"],
        "critic": not new_critic,
    }
    say(_summary(run, initial, new_critic))


def _refuse_other_networks(config: Config, initial: InitialWeights) -> None:
    """Raise UsageError when a key that the weights of the policy depend on has another value than in `initial`."""
    kind, there = config.policy.kind, initial.config.policy.kind
    if kind != there:
        raise UsageError(
            f"{initial.place}: {initial.path} holds a {there} policy, and this run has a {kind} one. Name a checkpoint "
            f"of a {kind} policy, or set algorithm: {initial.config.algorithm}."
        )
    keys: list[KeyPath] = [("policy", key) for key in build.kind_of(config).network_keys]
    for key in (*keys, ("learner", "normalise_observations")):
        here, saved = _value(config, key), _value(initial.config, key)
        if here != saved:
            raise UsageError(
                f"{initial.place}: {dotted(key)} is {validation.shown(here)} here and {validation.shown(saved)} in "
                f"{initial.path}, whose weights were trained with that. Set {dotted(key)} to the value there, or leave "
                "init_from out."
            )


def _why_new_critic(run: Run, initial: InitialWeights) -> str:
    """Return why the critic cannot begin with the weights of `initial`, or ''."""
    for key in CRITIC_KEYS:
        here, saved = _value(run.config, key), _value(initial.config, key)
        if here != saved:
            return f"{dotted(key)} is {validation.shown(here)} here and {validation.shown(saved)} there"
    mask = run.training.learner.critic.mask.visible
    return "" if _same_mask(initial.content["critic"], mask) else "it sees other parts of the observation"


def _same_mask(weights: dict[str, Tensor], visible: Tensor | None) -> bool:
    saved = weights.get(MASK)
    if saved is None or visible is None:
        return saved is visible
    return torch.equal(saved, visible.float().cpu())


def _summary(run: Run, initial: InitialWeights, new_critic: str) -> str:
    held = ["policy", *([] if new_critic else ["critic"]), "observation statistics"]
    parts = [f"the run begins with the weights of {initial.title}: {', '.join(held)}"]
    if new_critic:
        parts.append(f"the critic begins with new weights, because {new_critic}")
    if initial.content["average"] is not None and run.training.learner.average is None:
        parts.append("the moving average of that run is left out (learner.ema_decay is not set here)")
    blocks = [each.env.model_dump(mode="json", exclude=set(STEPPING)) for each in (initial.config, run.config)]
    if changed := resume.changes({"env": blocks[0]}, {"env": blocks[1]}):
        shown = [
            f"{dotted(each.path)} was {validation.shown(each.before)} and is {validation.shown(each.after)}"
            for each in changed[:_MOST_DIFFERENCES]
        ]
        more = f" and {len(changed) - len(shown)} more" if len(changed) > len(shown) else ""
        parts.append(f"another environment: {', '.join(shown)}{more}")
    return "; ".join(parts) + "."


def _value(config: Config, key: KeyPath) -> Any:
    value: Any = config
    for step in key:
        value = getattr(value, str(step))
    return value
