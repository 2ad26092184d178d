"""Make environments: build what an id names, and explain what cannot be built."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from flowrl.contracts import user_code
from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, UsageError, stop_behind
from flowrl.envs import state_capture, state_encoding
from flowrl.envs.adapter import Adapter
from flowrl.envs.arguments import at_least_one
from flowrl.envs.calls import close
from flowrl.envs.families import FAMILIES, family_of
from flowrl.envs.lookup import (
    RESERVED,
    CodeSpec,
    constructor,
    constructor_options,
    find,
    fixed_arguments,
    is_ours,
    keys_of,
    of_spec,
    parameters,
    steps_together,
)
from flowrl.envs.refusals import check_parts, refusal, unsupported_spaces, unsupported_vector
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation import simulators
from flowrl.envs.workers import WorkerVectorEnv
from flowrl.envs.wrappers import GuardedEnv, RepeatedAction, interrupted_by_user
from flowrl.envs.wrapping import wrapped

Way = Literal["sync", "async", "batch", "own"]
"""`batch`: Gymnasium's id through a family's vector environment; `own`: the id of a family of ours, or
a task or vector environment of the user's."""

IMPORTING = ("GymV21Environment-v0", "GymV26Environment-v0")
"""Ids of Gymnasium whose `env_id` may be 'module:id', as old Gym's ids may: the module is imported."""


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
    for key in keys_of(spec).intersection(settings.options):
        raise UsageError(f"env.options.{key}: write env.{key}, which {settings.id} reads instead.")
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
    unsupported = unsupported_vector(envs) if isinstance(spec, CodeSpec) and mode == "own" else ""
    unsupported = unsupported or unsupported_spaces(envs, settings)
    if unsupported:
        close(envs, settings.id)
        raise UsageError(f"{settings.id}: {unsupported}")
    return Adapter(envs, settings)


def engine_of(spec: EnvSpec, settings: EnvSettings, mode: Way, count: int) -> simulators.Engine:
    """Return the physics engine of `count` environments, with `env.simulator: auto` resolved.

    Raises UsageError for MuJoCo Warp where the environments cannot run on it.
    """
    reason = ""
    if mode == "batch":
        reason = f"flowrl simulates {settings.id} with MuJoCo alone, which computes the external forces on bodies."
    elif mode != "own" and steps_together(spec):
        reason = "it simulates all environments together, so they cannot be stepped or wrapped one by one."
    elif mode != "own" or "simulator" not in parameters(spec.vector_entry_point):
        reason = f"{settings.id} is no task that flowrl simulates itself."
    return simulators.chosen(settings, count, reason)


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
    spec = find(env.settings.id)
    if is_ours(spec) or (steps_together(spec) and isinstance(state["envs"], list)):
        return ""
    if not isinstance(state["envs"], list) or state["id"] != env.settings.id:
        return env.carry_over(state)
    new = make(trained.model_copy(update={"mode": "sync"}), count=1)
    try:
        fresh = new.state()["envs"]
    finally:
        new.close()
    return env.carry_over(state, state_encoding.as_arrays(fresh)[0] if fresh else None)


def way(spec: EnvSpec, settings: EnvSettings, render_mode: str | None) -> Way:
    """Decide how the environments are stepped: `settings.mode`, with `auto` resolved.

    Raises UsageError for `batch` where flowrl cannot, and for `async` and for wrappers where there is no single
    environment, or where it hides a part of its observation from the policy or has measures: one by one they do not
    report these.
    """
    in_wrappers = bool(settings.wrappers)
    if in_wrappers and settings.mode == "batch":
        raise UsageError(
            "env.mode=batch: wrappers are put around each environment, and then Gymnasium steps one after the other. "
            "Leave env.mode out."
        )
    if steps_together(spec):
        if not in_wrappers and settings.mode != "async":
            return "own"
        _refuse_one_by_one(spec, settings, "env.wrappers" if in_wrappers else "env.mode=async")
        return "async" if settings.mode == "async" else "sync"
    if settings.mode in ("sync", "async"):
        return settings.mode
    reason = not_native(spec, settings.arguments())
    if reason and settings.mode == "batch":
        raise UsageError(f"env.mode=batch: {reason} Leave env.mode out, or set it to sync.")
    return "sync" if reason or in_wrappers or render_mode is not None else "batch"


def _refuse_one_by_one(spec: EnvSpec, settings: EnvSettings, key: str) -> None:
    """Raise UsageError where environments of `spec` cannot be stepped one by one, which `key` asks for."""
    left_out = key.partition("=")[0]
    if family_of(spec.id).measures:
        each = "an environment in a wrapper" if key == "env.wrappers" else "a process per environment"
        raise UsageError(
            f"{key}: {each} does not report what {spec.id} hides from the policy, nor what it measures. Leave "
            f"{left_out} out: flowrl steps it on all cores."
        )
    if spec.entry_point is None:
        raise UsageError(
            f"{key}: {settings.id} makes all its environments together, so there is none to step or wrap alone. Leave "
            f"{left_out} out."
        )


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
    repeat, engine = settings.action_repeat, engine_of(spec, settings, mode, count)
    if mode == "batch":
        steps = named.get("max_episode_steps", spec.max_episode_steps)
        make_envs = constructor(family_of(spec.id).vector_env)
        return make_envs(spec.id, count, steps, settings.threads, repeat)
    if mode == "own":
        if "threads" in parameters(spec.vector_entry_point):
            named.setdefault("threads", settings.threads)
        if "simulator" in parameters(spec.vector_entry_point):
            named["simulator"] = simulators.make(engine, settings)
        if repeat > 1:
            if "action_repeat" not in parameters(spec.vector_entry_point):
                raise UsageError(
                    f"env.action_repeat={repeat}: {settings.id} takes every action once. Leave env.action_repeat out, "
                    "and repeat actions in the environment itself if it needs that."
                    if isinstance(spec, CodeSpec)
                    else f"env.action_repeat={repeat}: {spec.id} takes every action once, for its steps are long "
                    "already. Leave env.action_repeat out."
                )
            named["action_repeat"] = repeat
        return gymnasium.make_vec(of_spec(spec), num_envs=count, vectorization_mode="vector_entry_point", **named)
    makers = [partial(made, settings, index, named, user_code.named()) for index in range(count)]
    if mode == "async":
        try:
            return WorkerVectorEnv(makers, settings.timeout_s or None)
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"{settings.id}: {error}") from None
    return SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)


def made(
    settings: EnvSettings, index: int, named: dict[str, Any], code: user_code.NamedCode
) -> gymnasium.Env[Any, Any]:
    """Construct environment number `index` of a vector, with the wrappers of the recipe and of flowrl.

    `code` is what the main process may load: this may be a worker.
    """
    user_code.adopt(code)
    # Gymnasium's checker only warns, once per environment; GuardedEnv checks every step.
    spec = find(settings.id)
    env = gymnasium.make(of_spec(spec), disable_env_checker=True, **named)
    if isinstance(spec, CodeSpec):
        check_parts(env, settings.id)
    env = GuardedEnv(wrapped(env, settings.wrappers), index)
    return RepeatedAction(env, num_repeats=settings.action_repeat) if settings.action_repeat > 1 else env
