"""Make environments: find an id in Gymnasium's registry, build it, and explain what cannot be built."""

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
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from flowrl.contracts.errors import (
    EnvironmentFailed,
    FlowrlError,
    MissingDependency,
    UsageError,
    did_you_mean,
    in_one_line,
    stop_behind,
)
from flowrl.envs import opengl, state_capture, state_encoding
from flowrl.envs.adapter import Adapter
from flowrl.envs.arguments import at_least_one
from flowrl.envs.calls import close
from flowrl.envs.families import FAMILIES, family_of
from flowrl.envs.settings import FAMILY_KEYS, EnvSettings
from flowrl.envs.workers import WorkerVectorEnv
from flowrl.envs.wrappers import GuardedEnv, RepeatedAction, interrupted_by_user

Way = Literal["sync", "async", "batch", "own"]
"""`batch`: Gymnasium's id through a family's vector environment; `own`: the id of a family of ours."""

RESERVED = set(inspect.signature(gymnasium.make_vec).parameters) - {"kwargs"}
RESERVED |= {"render_mode", "disable_env_checker", "action_repeat"}
"""Arguments of gymnasium.make_vec that `make` sets from the recipe's other keys."""

KEYS = FAMILY_KEYS | {"threads"}
"""Keys of a recipe that are keyword arguments of flowrl's environments, and so are not in `options`."""


IMPORTING = ("GymV21Environment-v0", "GymV26Environment-v0")
"""Ids of Gymnasium whose `env_id` may be 'module:id', as old Gym's ids may: the module is imported."""


def find(id: str) -> EnvSpec:
    """Return the registered environment; raise UsageError for an id that imports code or does not exist."""
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
    settings: EnvSettings, count: int | None = None, render_mode: str | None = None, evaluation: bool = False
) -> Adapter:
    """Make `count` (default: `settings.count`) environments.

    `evaluation` is passed on to an environment that has an option of that name. With a `render_mode` Gymnasium's ids
    are stepped by Gymnasium, which can draw them. Raises UsageError for an id, option, mode or space that flowrl
    cannot use, MissingDependency when the environment's package is not installed, and EnvironmentFailed when its
    construction fails.
    """
    spec = find(settings.id)
    for key in KEYS.intersection(settings.options):
        if is_ours(spec):
            raise UsageError(f"env.options.{key}: write env.{key}, which {spec.id} reads instead.")
    taken = (RESERVED | fixed_arguments(spec)).intersection(settings.options)
    if taken:
        raise UsageError(
            f"env.options: {sorted(taken)[0]!r} is set by flowrl and cannot be an option of {settings.id}."
        )
    imported = settings.options.get("env_id")
    if spec.id in IMPORTING and isinstance(imported, str) and ":" in imported:
        raise UsageError(
            f"env.options.env_id {imported!r}: what stands before ':' is a module that {spec.id} would import, which "
            "an option must not do."
        )
    named = settings.arguments()
    steps = settings.options.get("max_episode_steps", -1)
    if steps != -1 and way(spec, settings, render_mode) in ("sync", "async"):  # -1: no limit, in Gymnasium
        at_least_one("env.options.max_episode_steps", steps)
    if render_mode is not None:
        named["render_mode"] = render_mode
    count = settings.count if count is None else count
    mode = way(spec, settings, render_mode)
    try:
        with state_capture.quiet_mujoco() if "mujoco" in str(spec.entry_point) else nullcontext():
            if evaluation and "evaluation" in constructor_options(spec):
                named.setdefault("evaluation", True)
            envs = built(spec, mode, count, named, settings)
    except UsageError as error:
        raise at_its_key(error, settings) from error
    except FlowrlError:
        raise
    except BaseException as error:
        if interrupted_by_user(error):
            raise stop_behind(error) or error from None
        raise refusal(spec, settings, error) from error
    unsupported = unsupported_spaces(envs)
    if unsupported:
        close(envs, settings.id)
        raise UsageError(f"{settings.id}: {unsupported}")
    return Adapter(envs, settings)


def at_its_key(error: UsageError, settings: EnvSettings) -> UsageError:
    """Name the key of the recipe in an `error` of an environment's constructor about one of its arguments."""
    for name, value in settings.arguments().items():
        key = f"env.options.{name}" if name in settings.options else f"env.{name}"
        if repr(value) in str(error) and key not in str(error):
            return UsageError(f"{key}: {error}")
    return error


def carry_over(env: Adapter, state: dict[str, Any], trained: EnvSettings) -> str:
    """Let `env`, before its reset, continue with what a run's environments kept from one episode to the next.

    `state` is that of the run's Adapter, `trained` its settings. Returns why `env` may not be the environment that was
    trained in, or ''. The environments of our families keep nothing, however they are stepped.
    """
    if is_ours(find(env.settings.id)):
        return ""
    if not isinstance(state["envs"], list) or state["id"] != env.settings.id:
        return env.carry_over(state)
    new = make(trained.model_copy(update={"mode": "sync"}), count=1)
    try:
        fresh = new.state()["envs"]
    finally:
        new.close()
    return env.carry_over(state, state_encoding.as_arrays(fresh)[0] if fresh else None)


def is_ours(spec: EnvSpec) -> bool:
    """Return whether a family of ours has registered the environment."""
    return family_of(spec.id).env is not None


def way(spec: EnvSpec, settings: EnvSettings, render_mode: str | None) -> Way:
    """Decide how the environments are stepped: `settings.mode`, with `auto` resolved.

    Raises UsageError for `batch` where flowrl cannot, and for `async` where an environment hides a part of its
    observation from the policy or has measures: a worker process does not report these.
    """
    if is_ours(spec):
        if settings.mode == "async" and family_of(spec.id).measures:
            raise UsageError(
                f"env.mode=async: a process per environment does not report what {spec.id} hides from the policy, nor "
                "what it measures. Leave env.mode out: flowrl steps it on all cores."
            )
        return "async" if settings.mode == "async" else "own"
    if settings.mode in ("sync", "async"):
        return settings.mode
    reason = not_native(spec, settings.arguments())
    if reason and settings.mode == "batch":
        raise UsageError(f"env.mode=batch: {reason} Leave env.mode out, or set it to sync.")
    return "sync" if reason or render_mode is not None else "batch"


def not_native(spec: EnvSpec, options: dict[str, Any]) -> str:
    """Return why flowrl cannot step this environment itself, or an empty string."""
    family = family_of(spec.id)
    if not family.replaces:
        known = [id for each in FAMILIES if each.replaces for id in each.ids]
        return f"flowrl does not know {spec.id} itself, only {', '.join(known)} and its own flowrl/… ids."
    if not str(spec.entry_point).startswith(family.replaces) or spec.kwargs:
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
    """Construct `count` environments of `spec`, with the keyword arguments `named`."""
    repeat = settings.action_repeat
    if mode == "batch":
        steps = named.get("max_episode_steps", spec.max_episode_steps)
        make_envs = constructor(family_of(spec.id).vector_env)
        return make_envs(spec.id, count, steps, settings.threads, repeat)
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
    makers = [partial(made, spec.id, index, repeat, named) for index in range(count)]
    if mode == "async":
        try:
            return WorkerVectorEnv(makers, settings.timeout_s or None)
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"{spec.id}: {error}") from None
    return SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)


def made(id: str, index: int, repeat: int, named: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Construct environment number `index` of a vector, with the wrappers of flowrl."""
    # Gymnasium's checker only warns, once per environment; GuardedEnv checks every step.
    env = GuardedEnv(gymnasium.make(id, disable_env_checker=True, **named), index)
    return RepeatedAction(env, num_repeats=repeat) if repeat > 1 else env


def unsupported_spaces(envs: VectorEnv[Any, Any, Any]) -> str:
    """Return why the spaces of `envs` cannot be used, or an empty string."""
    space = envs.single_action_space
    if not isinstance(space, spaces.Box):
        return (
            f"its action space is {type(space).__name__}, but flowrl's actions are continuous: a Box of floats. "
            "`flowrl envs` lists environments that fit."
        )
    if not np.issubdtype(space.dtype, np.floating):
        return f"its actions are {space.dtype}, but flowrl's actions are continuous: a Box of floats."
    if np.isnan(space.low).any() or np.isnan(space.high).any():
        return f"the bounds of its actions are not numbers: {space}."
    for name, size in (("action", space.shape), ("observation", envs.single_observation_space.shape)):
        if not np.prod(size or ()):
            return f"its {name} space has the shape {size}: there is nothing to learn from."
    return ""


def refusal(spec: EnvSpec, settings: EnvSettings, error: BaseException) -> FlowrlError:
    """Return the error for the user when the construction of an environment raised `error`."""
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
    """Return the keyword arguments that a user may set of the environment's constructor."""
    if spec.entry_point is None:
        return set()
    named = parameters(spec.entry_point) - (KEYS if is_ours(spec) else set())
    return (named | {"max_episode_steps"}) - RESERVED - fixed_arguments(spec) - {"self"}


def constructor(entry_point: Any) -> Any:
    """Return the class or function of a registered entry point, which may be its name `module:constructor`."""
    return entry_point if callable(entry_point) else load_env_creator(entry_point)


def parameters(entry_point: Any) -> set[str]:
    """Return the keyword arguments of a registered constructor."""
    known = inspect.signature(constructor(entry_point)).parameters.values()
    return {p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def fixed_arguments(spec: EnvSpec) -> set[str]:
    """Return the keyword arguments that the registration of an id of ours fixes, such as `task`."""
    return set(spec.kwargs) if is_ours(spec) else set()
