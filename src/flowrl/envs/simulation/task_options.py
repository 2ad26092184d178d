"""The options of a public `Task`: the plain attributes of its class, which the block `env.options` sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.simulation.task import Task

PLAIN = (bool, int, float, str, tuple)
DECLARED = ("xml", "derived", "varied", "known_parts")
"""Attributes that belong to the code of a class, and are no options."""
CONSTRUCTOR = ("num_envs", "threads", "simulator", "action_repeat", "render_mode", "height", "width")
"""Arguments of the constructors of environments, which no option can be called."""


def known(task: type[Task]) -> dict[str, Any]:
    """Return the options of `task` by name, with their defaults: `Task`'s own first."""
    owners = reversed(task.__mro__[: task.__mro__.index(Task) + 1])
    return {
        name: value
        for owner in owners
        for name, value in vars(owner).items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name not in DECLARED
    }


def checked(task: type[Task], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from the class; raises UsageError for a name or a type that it does not have."""
    defaults, values = known(task), {}
    for name, value in options.items():
        if name not in defaults:
            raise UsageError(
                f"env.options: {task.__name__} has no option {name!r}.{did_you_mean(name, defaults)} Its options are "
                f"the numbers, texts and tuples among the attributes of its class: {', '.join(defaults)}."
            )
        values[name] = _like(task, name, value, defaults[name])
    return values


def _like(task: type[Task], name: str, value: Any, default: Any) -> Any:
    """Return `value` in the type of `default`."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is type(default) or (name == "camera" and type(value) in (int, str)):
        return value
    raise UsageError(
        f"env.options.{name} of {task.__name__} is a {type(default).__name__}, as {default!r}, not {value!r}."
    )


def check_declarations(task: type[Task], model: mujoco.MjModel) -> None:
    """Raise UsageError where the class declares fields that MuJoCo does not have, or an attribute of a taken name."""
    for name in CONSTRUCTOR:
        if name in known(task):
            raise UsageError(
                f"{task.__name__}.{name}: `{name}` in env.options is an argument of every environment (its pictures, "
                "their number, its threads), so no attribute of a task may have this name. Rename it."
            )
    both: tuple[tuple[str, type[Any], Any], ...] = (
        ("derived", mujoco.MjData, task.derived),
        ("varied", mujoco.MjModel, task.varied),
    )
    for declared, owner, fields in both:
        if isinstance(fields, str):
            raise UsageError(f"{task.__name__}.{declared} is a tuple of names: write ({fields!r},) with a comma.")
        for field in fields:
            if not hasattr(owner, field) or field.startswith("_"):
                names = [name for name in dir(owner) if not name.startswith("_")]
                raise UsageError(
                    f"{task.__name__}.{declared}: {owner.__name__} has no field {field!r}.{did_you_mean(field, names)}"
                )
    for name in ("substeps", "episode_steps"):
        value = getattr(task, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{task.__name__}.{name} must be a whole number of at least 1, not {value!r}.")


def key_number(name: str, model: mujoco.MjModel, keyframe: str) -> int:
    """Return the number of a keyframe of `model`; raises UsageError, with those there are, for another one."""
    names = [model.key(number).name for number in range(model.nkey)]
    if keyframe not in names:
        raise UsageError(
            f"{name}.keyframe: the model has no keyframe {keyframe!r}.{did_you_mean(keyframe, names)} It has "
            f"{', '.join(names) or 'none'}."
        )
    return names.index(keyframe)
