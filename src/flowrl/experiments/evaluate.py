"""Evaluating a checkpoint as asked: which sampler, which noise, which environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from flowrl.config import recipe
from flowrl.config.recipe import Place
from flowrl.config.schema import Config
from flowrl.config.yaml_reader import KeyPath
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs import adapter, factory
from flowrl.evaluation.episodes import Evaluation, evaluate, summary
from flowrl.experiments.build import (
    LoadedPolicy,
    check_sampler,
    kind_of,
    load_config,
    load_policy,
    prepare_process,
    refuse_file_sampler,
)
from flowrl.policies.noise_modes import NoiseMode
from flowrl.storage import checkpoint

SLOTS = 64  # environments played together, at most


@dataclass(frozen=True)
class EvalRequest:
    """What is asked of a checkpoint; None stands for what the run was trained with."""

    sampler: str | None = None
    steps: int | None = None
    overrides: tuple[str, ...] = ()  # key.path=value
    episodes: int = 100
    seed: int = 0
    noise: str | None = None
    env: str | None = None

    def each(self, steps: list[int] | None) -> Iterator[EvalRequest]:
        """The question once per sampler in a list such as euler:10,heun:5, per number of steps, and per noise
        mode in a list such as random,zero."""
        noises = self.noise.split(",") if self.noise is not None else [None]
        for name in self.sampler.split(",") if self.sampler is not None else [None]:
            own = replace(self, sampler=name)
            if name is not None and (match := re.fullmatch(r"(.+):(\d+)", name.strip())):
                own = replace(self, sampler=match[1], steps=int(match[2]))
            for each in [own] if steps is None else [replace(own, steps=number) for number in steps]:
                yield from (replace(each, noise=noise and noise.strip()) for noise in noises)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """An opened checkpoint."""

    path: Path
    content: dict[str, Any]
    config: Config

    @property
    def title(self) -> str:
        return f"{self.config.algorithm} on {self.config.env.id}, {self.content['progress']['env_steps']:,} env steps"

    def heard(self, question: EvalRequest) -> EvalRequest:
        """Drop the options that this policy ignores: a policy without a flow has no sampler."""
        if not kind_of(self.config).uses_sampler:
            return replace(question, sampler=None, steps=None)
        return question


@dataclass(frozen=True)
class EvalResult:
    """The answer to a question; its tables have the keys of `flowrl.evaluation.episodes.summary`."""

    evaluation: Evaluation
    facts: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Of all episodes."""
        return summary(self.evaluation, **self.facts)

    def by_clip(self) -> list[dict[str, Any]]:
        """Of the episodes of each motion, named by `motion`; of all of them where the environment has none."""
        return [
            ({"motion": clip} if clip else {}) | summary(episodes, **self.facts)
            for clip, episodes in self.evaluation.by_clip()
        ]


def open_checkpoint(path: Path) -> LoadedCheckpoint:
    """Verify and open a checkpoint or a run folder's; raises CheckpointError."""
    found = checkpoint.find(path)
    content = checkpoint.load(found)
    return LoadedCheckpoint(found, content, load_config(content))


def examine(subject: LoadedCheckpoint, question: EvalRequest) -> EvalResult:
    """Play the episodes and sum them up; raises UsageError when a name, option or environment does not fit."""
    loaded = load(subject, question)
    env = factory.make(loaded.config.env, count=min(SLOTS, question.episodes), evaluation=True)
    try:
        check_sizes(loaded, env)
        result = evaluate(loaded.policy, env, episodes=question.episodes, seed=question.seed)
    finally:
        env.close()
    return EvalResult(result, facts(loaded))


def load(subject: LoadedCheckpoint, question: EvalRequest) -> LoadedPolicy:
    """The policy, acting as asked; raises UsageError when a name or option does not fit."""
    config = configured(subject, question)
    prepare_process(config)
    return load_policy(subject.content, config, seed=question.seed)


def facts(loaded: LoadedPolicy) -> dict[str, Any]:
    """How the policy makes its actions: sampler and its steps, velocity evaluations per action, noise mode."""
    return {
        "sampler": loaded.config.sampler.name if loaded.policy.sampler is not None else None,
        "steps": getattr(loaded.policy.sampler, "steps", None),
        "nfe": loaded.policy.nfe,
        "noise": loaded.config.noise,
    }


def configured(subject: LoadedCheckpoint, question: EvalRequest) -> Config:
    """The run's configuration with what is asked for in its place."""
    if question.noise is not None and question.noise not in get_args(NoiseMode):
        modes = get_args(NoiseMode)
        raise UsageError(
            f"--noise {question.noise}: expected {', '.join(modes)}.{did_you_mean(question.noise, modes)}"
        )
    values = subject.config.model_dump(mode="json")
    sampler = values["sampler"]
    places: dict[KeyPath, Place] = {}
    if question.sampler is not None:
        places["sampler", "name"] = Place(f"--sampler {question.sampler}", None, ())
        if question.sampler != sampler["name"]:
            sampler = {"name": question.sampler}  # options of another sampler would not fit this one
    if question.steps is not None:
        places["sampler", "steps"] = Place(f"--steps {question.steps}", None, ())
        sampler = sampler | {"steps": question.steps}
    values["sampler"] = sampler
    values["noise"] = question.noise or values["noise"]
    if question.env is not None and question.env != values["env"]["id"]:
        values["env"] = values["env"] | {"id": question.env, "options": {}}
    changed = recipe.apply(recipe.Recipe(str(subject.path), values, places), question.overrides)
    if not changed.place(("sampler", "name")).is_override:
        refuse_file_sampler(subject.config, subject.path, f"--sampler {subject.config.sampler.name}")
    config = recipe.validate(Config, changed)
    check_sampler(config, changed)
    _refuse_another_goal(subject, config)
    return config


def _refuse_another_goal(subject: LoadedCheckpoint, config: Config) -> None:
    """A policy sees what its checkpoint says, whatever is set; raise UsageError rather than let it seem otherwise."""
    trained, asked = subject.config.env, config.env
    if asked.id == trained.id and asked.goal != trained.goal:
        raise UsageError(
            f"env.goal={asked.goal}: the policy in {subject.path} was trained with goal {trained.goal or 'full'} and "
            "sees no more and no less. Leave --set env.goal out, or train one with it."
        )


def check_sizes(loaded: LoadedPolicy, env: adapter.Adapter) -> None:
    """Raise UsageError unless the policy's observations and actions are of the environment's sizes."""
    if (loaded.observation_size, loaded.action_size) != (env.observation_size, env.action_size):
        raise UsageError(
            f"--env {env.settings.id}: it has {env.observation_size} observation and {env.action_size} action "
            f"numbers, the policy was trained with {loaded.observation_size} and {loaded.action_size}. Choose an "
            "environment of the same sizes, or train on this one."
        )
