"""Evaluating a checkpoint as asked: which sampler, which noise, which environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from flowrl import checkpoint, envs, recipe
from flowrl.assembly import load_config, load_policy, prepare_process, refuse_file_sampler
from flowrl.config import Config
from flowrl.errors import UsageError, did_you_mean
from flowrl.evaluation import evaluate, summary
from flowrl.policy import NoiseMode

SLOTS = 64  # environments played together, at most

COLUMNS = ["sampler", "steps", "NFE", "noise", "return (95 %)", "IQM", "success", "length", "µs/action"]


@dataclass(frozen=True)
class Question:
    """What is asked of a checkpoint; None stands for what the run was trained with."""

    sampler: str | None = None
    steps: int | None = None
    overrides: tuple[str, ...] = ()  # key.path=value
    episodes: int = 100
    seed: int = 0
    noise: str | None = None
    env: str | None = None

    def each(self, steps: list[int] | None) -> Iterator[Question]:
        """The question once per sampler in a list such as euler:10,heun:5, and once per number of steps."""
        for name in self.sampler.split(",") if self.sampler is not None else [None]:
            own = replace(self, sampler=name)
            if name is not None and (match := re.fullmatch(r"(.+):(\d+)", name.strip())):
                own = replace(self, sampler=match[1], steps=int(match[2]))
            yield from [own] if steps is None else [replace(own, steps=number) for number in steps]


@dataclass(frozen=True)
class Subject:
    """An opened checkpoint."""

    path: Path
    content: dict[str, Any]
    config: Config

    @property
    def title(self) -> str:
        return f"{self.config.algorithm} on {self.config.env.id}, {self.content['progress']['env_steps']:,} env steps"


def open_checkpoint(path: Path) -> Subject:
    """Verify and open a checkpoint or a run folder's; raises CheckpointError."""
    found = checkpoint.find(path)
    content = checkpoint.load(found)
    return Subject(found, content, load_config(content))


def step_numbers(text: str) -> list[int]:
    """'1,2,4' → [1, 2, 4]; raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise UsageError(f"--sweep-steps {text!r}: expected whole numbers from 1 on, such as 1,2,4,8.")
    return [int(part) for part in parts]


def examine(subject: Subject, question: Question) -> dict[str, Any]:
    """Play the episodes and sum them up; the keys are those of `flowrl.evaluation.summary`.

    Raises UsageError when a name, option or environment does not fit.
    """
    config = configured(subject, question)
    prepare_process(config)
    loaded = load_policy(subject.content, config, seed=question.seed)
    simulation = envs.make(config.env, count=min(SLOTS, question.episodes))
    try:
        _check_sizes(loaded.observation_size, loaded.action_size, simulation, config)
        result = evaluate(loaded.policy, simulation, episodes=question.episodes, seed=question.seed)
    finally:
        simulation.close()
    flow = loaded.field is not None
    return summary(
        result,
        sampler=config.sampler.name if flow else None,
        steps=getattr(getattr(loaded.policy, "sampler", None), "steps", None),
        nfe=loaded.nfe,
        noise=config.noise,
    )


def configured(subject: Subject, question: Question) -> Config:
    """The run's configuration with what is asked for in its place."""
    if question.noise is not None and question.noise not in get_args(NoiseMode):
        modes = get_args(NoiseMode)
        raise UsageError(
            f"--noise {question.noise}: expected {', '.join(modes)}.{did_you_mean(question.noise, modes)}"
        )
    values = subject.config.model_dump(mode="json")
    sampler = values["sampler"]
    if question.sampler is None:
        refuse_file_sampler(subject.config, subject.path, f"--sampler {sampler['name']}")
    if question.sampler is not None and question.sampler != sampler["name"]:
        sampler = {"name": question.sampler}  # options of another sampler would not fit this one
    if question.steps is not None:
        sampler = sampler | {"steps": question.steps}
    values["sampler"] = sampler
    values["noise"] = question.noise or values["noise"]
    if question.env is not None and question.env != values["env"]["id"]:
        values["env"] = values["env"] | {"id": question.env, "options": {}}
    changed = recipe.apply(recipe.Recipe(str(subject.path), values), question.overrides)
    return recipe.validate(Config, changed)


def _check_sizes(observation: int, action: int, simulation: envs.Simulation, config: Config) -> None:
    if (observation, action) != (simulation.observation_size, simulation.action_size):
        raise UsageError(
            f"--env {config.env.id}: it has {simulation.observation_size} observation and {simulation.action_size} "
            f"action numbers, the policy was trained with {observation} and {action}. Choose an environment of the "
            "same sizes, or train on this one."
        )


def line(row: dict[str, Any]) -> list[str]:
    """A row of the table under `COLUMNS`."""
    low, high = row["return_ci95"]
    return [
        row["sampler"] or "-",
        _shown(row["steps"]),
        _shown(row["nfe"]),
        row["noise"],
        f"{row['return_mean']:.4g} [{_shown(low)}, {_shown(high)}]",
        f"{row['return_iqm']:.4g}",
        _shown(row["success_rate"]),
        f"{row['length_mean']:.4g}",
        f"{row['action_us']:.1f}",
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
