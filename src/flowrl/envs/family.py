"""The record of one family of environments: all that the generic parts of flowrl know of it.

A new family is one module with such a record, named `FAMILY`, and one row in `flowrl.envs.families`. The module of
a record must import neither torch nor MuJoCo: `flowrl envs` reads every record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flowrl.contracts.settings import Settings


class ReturnRange(NamedTuple):
    """The return of an episode of usual length, at least and at most; `flowrl compare` normalises with it."""

    low: float
    high: float
    of: str  # 'a cart's return', as the notes of a comparison name it


class Facts(NamedTuple):
    """Facts on one environment, as `flowrl envs ID` prints them; those of a family go beyond the spaces."""

    values: dict[str, Any]  # keys of the JSON document
    lines: Sequence[tuple[str, str]]  # (name, text); a family's named observation or action go below that space


@dataclass(frozen=True)
class Variants:
    """A choice that the environment makes for every episode, and by which evaluations group the results."""

    name: str  # the column of tables, and the JSON key
    names: str  # the vector environment's attribute with all choices, a tuple of text
    current: str  # its attribute with the choices of the running episodes, a tuple with an entry per row
    info: str  # the key in `final_info` of an ended episode's choice, as an index into `names`
    differ: str  # why two policies with other choices cannot be played side by side, and what to type


@dataclass(frozen=True)
class Family:
    """One family of environments.

    `vector_env` and `env` are entry points `module:constructor` of many environments stepped together (with
    SAME_STEP autoreset) and of one. Both are registered with Gymnasium for every id. The vector environment gets
    `threads` and `action_repeat` where its constructor names them; with `state()` and `restore()` a run resumes
    exactly, and what a policy may see of an observation is its `policy_mask`.

    A family without `env` registers nothing: its ids are Gymnasium's, registered with an entry point that begins with
    `replaces`, and flowrl steps them through `vector_env`, called with (id, num_envs, max_episode_steps, threads,
    action_repeat).
    """

    ids: Mapping[str, Mapping[str, Any]]  # id -> keyword arguments that the registration fixes
    vector_env: str
    env: str | None = None
    replaces: str = ""
    max_episode_steps: int | None = None
    return_range: ReturnRange | None = None  # None: unknown
    facts: Callable[[str], Facts] = lambda id: Facts({}, ())
    settings: type[Settings] | None = None
    """The family's own keys of the block `env` of a recipe, each with the default None (the environment's default).
    A value is handed to the environment as the keyword argument of that name."""
    fixed_by_training: Mapping[str, str] = field(default_factory=dict)
    """Those keys that decide what a policy sees of an observation, and what None means for each."""
    measures: tuple[str, ...] = ()
    """Numbers that `final_info` holds of an ended episode and that evaluations average."""
    variants: Variants | None = None


def task_facts(
    task: type[Any],
    parts: Mapping[str, int],
    options: Mapping[str, Sequence[str]],
    *,
    settings: Mapping[str, Sequence[str]] | None = None,
    more: Mapping[str, Any] | None = None,
    below_observation: Sequence[str] = (),
) -> Facts:
    """Return the facts on a task class of `flowrl.envs.simulation.simulation_task`.

    `parts` are names and sizes of what an observation consists of; `options` and `settings` list the values of
    keyword arguments and of the family's keys, the default first; `more` are further values for the JSON document.
    """
    about = dict(task.facts)
    values = {"parts": parts, **(more or {}), "about": about}
    lines = [
        ("observation", ", ".join(f"{name} {size}" for name, size in parts.items()) + ":"),
        ("observation", about["observation"]),
        *(("observation", text) for text in below_observation),
        *((name, about[name]) for name in ("action", "start", "reward", "end") if name in about),
    ]
    if settings is not None:
        values["settings"] = settings
        lines += [(f"env.{name}", choices(known)) for name, known in settings.items()]
    lines += [("env.options", f"{name}: {choices(known)}") for name, known in options.items()]
    return Facts(values | {"options": options}, lines)


def choices(values: Sequence[str]) -> str:
    """'a (default), b, c' for the values of an option, the default first."""
    return ", ".join([f"{values[0]} (default)", *values[1:]])
