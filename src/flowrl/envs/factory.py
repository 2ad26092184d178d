"""From an id to an adapter: the environment found in Gymnasium's registry, built, and refused with a reason."""

from __future__ import annotations

import inspect
import re
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from flowrl.contracts.errors import (
    EnvironmentFailed,
    FlowrlError,
    MissingDependency,
    UsageError,
    did_you_mean,
    in_one_line,
)
from flowrl.envs import opengl, state_capture
from flowrl.envs.adapter import Adapter, close
from flowrl.envs.registration import NATIVE
from flowrl.envs.settings import EnvSettings
from flowrl.envs.wrappers import GuardedEnv, RepeatedAction

Way = Literal["sync", "async", "batch", "own"]
"""`batch`: Gymnasium's environment by flowrl's own means; `own`: by the vector environment it is registered with."""

RESERVED = {  # what `make` itself gives to gymnasium.make_vec, from the recipe's other keys
    "id",
    "num_envs",
    "vectorization_mode",
    "vector_kwargs",
    "wrappers",
    "render_mode",
    "disable_env_checker",
    "action_repeat",
}


KEYS = {"goal", "motions", "threads"}
"""Arguments of flowrl's own environments for which the recipe has keys, beside `options`."""


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


def make(
    settings: EnvSettings,
    count: int | None = None,
    render_mode: str | None = None,
    evaluation: bool = False,
) -> Adapter:
    """Build `count` (default: `settings.count`) environments.

    With `evaluation` an environment that starts and ends its episodes otherwise then (HumanoidTrack) does so.
    Where pictures are asked for, with `render_mode`, Gymnasium's own environments are stepped by Gymnasium, which
    can draw them. Raises UsageError for an id, option, mode or space that flowrl cannot use, MissingDependency when the
    environment's package is not installed, EnvironmentFailed when its construction fails.
    """
    spec = find(settings.id)
    for key in KEYS.intersection(settings.options):
        if spec.namespace == "flowrl":
            raise UsageError(f"env.options.{key}: write env.{key}, which {spec.id} is told by.")
    taken = (RESERVED | own_arguments(spec)).intersection(settings.options)
    if taken:
        raise UsageError(
            f"env.options: {sorted(taken)[0]!r} is set by flowrl and cannot be an option of {settings.id}."
        )
    named = settings.arguments()
    if render_mode is not None:
        named["render_mode"] = render_mode
    count = settings.count if count is None else count
    mode = way(spec, settings, render_mode)
    try:
        with state_capture.quiet_mujoco() if "mujoco" in str(spec.entry_point) else nullcontext():
            if evaluation and "evaluation" in constructor_options(spec):
                named.setdefault("evaluation", True)
            envs = built(spec, mode, count, named, settings)
    except FlowrlError:
        raise
    except Exception as error:
        raise refusal(spec, settings, error) from error
    unsupported = unsupported_spaces(envs)
    if unsupported:
        close(envs)
        raise UsageError(f"{settings.id}: {unsupported}")
    return Adapter(envs, settings)


def way(spec: EnvSpec, settings: EnvSettings, render_mode: str | None) -> Way:
    """How the environments are stepped: `settings.mode`, with `auto` decided.

    Raises UsageError where `batch` is asked for and flowrl cannot, and where `async` would lose what an environment
    hides from the policy and measures.
    """
    if spec.namespace == "flowrl" and spec.vector_entry_point is not None:
        if settings.mode == "async" and hasattr(constructor(spec.vector_entry_point), "measures"):
            raise UsageError(
                f"env.mode=async: a process per environment cannot tell what {spec.id} hides from the policy, nor what "
                "it measures. Leave env.mode out: flowrl steps it on all cores."
            )
        return "async" if settings.mode == "async" else "own"
    if settings.mode in ("sync", "async"):
        return settings.mode
    reason = not_native(spec, settings.arguments())
    if reason and settings.mode == "batch":
        raise UsageError(f"env.mode=batch: {reason} Leave env.mode out, or set it to sync.")
    return "sync" if reason or render_mode is not None else "batch"


def not_native(spec: EnvSpec, options: dict[str, Any]) -> str:
    """Why flowrl cannot step this environment itself, or an empty string."""
    if spec.id not in NATIVE:
        return f"flowrl does not know {spec.id} itself, only {', '.join(NATIVE)} and its own flowrl/… ids."
    if not str(spec.entry_point).startswith("gymnasium.envs.mujoco.") or spec.kwargs:
        return f"{spec.id} is registered here as something else than Gymnasium's own."
    others = sorted(options.keys() - {"max_episode_steps"})
    if others:
        return f"flowrl knows {spec.id} with its default arguments only, not with env.options.{others[0]}."
    steps = options.get("max_episode_steps", spec.max_episode_steps)
    if type(steps) is not int or steps < 1:
        return f"max_episode_steps must be a whole number of at least 1, not {steps!r}."
    return ""


def built(
    spec: EnvSpec, mode: Way, count: int, named: dict[str, Any], settings: EnvSettings
) -> VectorEnv[Any, Any, Any]:
    """`count` environments of `spec`, with the keyword arguments `named`."""
    repeat = settings.action_repeat
    if mode == "batch":
        from flowrl.envs.gymnasium_mujoco import tasks  # needs MuJoCo

        return tasks.vector_env(
            spec.id, count, named.get("max_episode_steps", spec.max_episode_steps), settings.threads, repeat
        )
    if mode == "own":
        if "threads" in parameters(spec.vector_entry_point):
            named.setdefault("threads", settings.threads)
        if repeat > 1:
            if "action_repeat" not in parameters(spec.vector_entry_point):
                raise UsageError(
                    f"env.action_repeat={repeat}: {spec.id} takes every action once, for its steps are long already. "
                    "Leave env.action_repeat out."
                )
            named["action_repeat"] = repeat
        return gymnasium.make_vec(spec.id, num_envs=count, vectorization_mode="vector_entry_point", **named)
    return gymnasium.make_vec(
        spec.id,
        num_envs=count,
        vectorization_mode=mode,
        wrappers=[partial(RepeatedAction, num_repeats=repeat), GuardedEnv] if repeat > 1 else [GuardedEnv],
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP, "copy": False},
        disable_env_checker=True,  # it only warns, once per environment; Adapter checks every step
        **named,
    )


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
    try:
        opengl.check()
    except MissingDependency as reason:
        return reason
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and unknown and unknown[1] in settings.arguments():
        known = sorted(constructor_options(spec) - {unknown[1]})
        listed = f" It takes {', '.join(known)}." if known else ""
        place = "env.options" if unknown[1] in settings.options else f"env.{unknown[1]}"
        return UsageError(
            f"{place}: {settings.id} has no option {unknown[1]!r}.{did_you_mean(unknown[1], known)}{listed}"
        )
    if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
        return MissingDependency(
            f"{settings.id} cannot be made with the packages installed here: {' '.join(str(error).split())}"
        )
    return EnvironmentFailed(f"{settings.id} cannot be made: {in_one_line(error)}")


def constructor_options(spec: EnvSpec) -> set[str]:
    """The keyword arguments that the environment's constructor names."""
    if spec.entry_point is None:
        return set()
    named = parameters(spec.entry_point)
    named = named - KEYS if spec.namespace == "flowrl" else named
    return (named | {"max_episode_steps"}) - RESERVED - own_arguments(spec) - {"self"}


def constructor(entry_point: Any) -> Any:
    """What a registered entry point, the thing itself or where it is to be imported from, makes environments by."""
    return entry_point if callable(entry_point) else load_env_creator(entry_point)


def parameters(entry_point: Any) -> set[str]:
    """The keyword arguments that a registered constructor names."""
    known = inspect.signature(constructor(entry_point)).parameters.values()
    return {p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def own_arguments(spec: EnvSpec) -> set[str]:
    """What the registration of one of flowrl's ids has decided, such as `task`."""
    return set(spec.kwargs) if spec.namespace == "flowrl" else set()
