"""From an id to an adapter: the environment found in Gymnasium's registry, built, and refused with a reason."""

from __future__ import annotations

import inspect
import re
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from flowrl.envs import snapshot
from flowrl.envs.adapter import Adapter, EnvSettings, close
from flowrl.envs.watched import Watched, told
from flowrl.errors import EnvironmentFailed, FlowrlError, MissingDependency, UsageError, did_you_mean

RESERVED = {  # what `make` itself gives to gymnasium.make_vec
    "id",
    "num_envs",
    "vectorization_mode",
    "vector_kwargs",
    "wrappers",
    "render_mode",
    "disable_env_checker",
}


def find(id: str) -> EnvSpec:
    """The registered environment of that id; raises UsageError for one that imports code or is not there."""
    if ":" in id:
        raise UsageError(
            f"env.id {id!r}: ids with ':' import a module, which a configuration must not do. Register the "
            "environment with Gymnasium in your own code and give its plain id."
        )
    if id not in gymnasium.registry:
        by_lower = {known.lower(): known for known in gymnasium.registry}
        hint = did_you_mean(id, gymnasium.registry) or did_you_mean(id.lower(), by_lower)
        for lower, known in by_lower.items():
            hint = hint.replace(repr(lower), repr(known))
        raise UsageError(f"env.id: there is no environment {id!r}.{hint} `flowrl envs` lists them.")
    return gymnasium.registry[id]


def make(settings: EnvSettings, count: int | None = None, render_mode: str | None = None) -> Adapter:
    """Build `count` (default: `settings.count`) environments.

    Raises UsageError for an id, option or space that flowrl cannot use, MissingDependency when the
    environment's package is not installed, EnvironmentFailed when its construction fails.
    """
    spec = find(settings.id)
    taken = RESERVED.intersection(settings.options)
    if taken:
        raise UsageError(
            f"env.options: {sorted(taken)[0]!r} is set by flowrl and cannot be an option of {settings.id}."
        )
    named: dict[str, Any] = dict(settings.options)
    if render_mode is not None:
        named["render_mode"] = render_mode
    ours = spec.namespace == "flowrl" and spec.vector_entry_point is not None and settings.mode == "sync"
    if not ours:
        named["wrappers"] = [Watched]
        named["vector_kwargs"] = {"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False}
        named["disable_env_checker"] = True  # it only warns, once per environment; Adapter checks every step
    mode = "vector_entry_point" if ours else settings.mode
    number = settings.count if count is None else count
    try:
        with snapshot.quiet_mujoco() if "mujoco" in str(spec.entry_point) else nullcontext():
            envs = gymnasium.make_vec(spec.id, num_envs=number, vectorization_mode=mode, **named)
    except FlowrlError:
        raise
    except Exception as error:
        raise refusal(spec, settings, error) from error
    unsupported = unsupported_spaces(envs)
    if unsupported:
        close(envs)
        raise UsageError(f"{settings.id}: {unsupported}")
    return Adapter(envs, settings)


def unsupported_spaces(envs: VectorEnv[Any, Any, Any]) -> str:
    """Why the spaces of `envs` cannot be used, or an empty string."""
    for name, space in (("observation", envs.single_observation_space), ("action", envs.single_action_space)):
        if not isinstance(space, spaces.Box):
            return (
                f"its {name} space is {type(space).__name__}, but flowrl needs Box spaces: continuous actions, and "
                "observations as arrays of numbers (of any rank: they are flattened). `flowrl envs` lists those "
                "that fit; wrap a Dict observation in gymnasium.wrappers.FlattenObservation."
            )
        if name == "action" and not np.issubdtype(space.dtype, np.floating):
            return f"its actions are {space.dtype}, but flowrl's actions are continuous: a Box of floats."
    return ""


def refusal(spec: EnvSpec, settings: EnvSettings, error: Exception) -> FlowrlError:
    """What to tell the user when the construction of an environment raised `error`."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and unknown and unknown[1] in settings.options:
        known = sorted(constructor_options(spec) - {unknown[1]})
        listed = f" It takes {', '.join(known)}." if known else ""
        return UsageError(
            f"env.options: {settings.id} has no option {unknown[1]!r}.{did_you_mean(unknown[1], known)}{listed}"
        )
    if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
        return MissingDependency(
            f"{settings.id} cannot be made with the packages installed here: {' '.join(str(error).split())}"
        )
    return EnvironmentFailed(f"{settings.id} cannot be made: {told(error)}")


def constructor_options(spec: EnvSpec) -> set[str]:
    """The keyword arguments that the environment's constructor names."""
    if spec.entry_point is None:
        return set()
    creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    parameters = inspect.signature(creator).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - RESERVED - {"self"}
