"""From the `env.id` of a recipe to the constructors of the environment.

An id is registered with Gymnasium, or is the name of an entry point of the group flowrl.environments, or names code:
`my_env.py:Reach`, `my_package.envs:Reach`, which the user must have named.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError, did_you_mean, in_one_line
from flowrl.contracts.offers import of_group, origin
from flowrl.envs.families import family_of
from flowrl.envs.settings import FAMILY_KEYS, EnvSettings

GROUP = "flowrl.environments"
"""The group of entry points with which an installed package offers environments. The name of an entry point is the id,
and its value `module:Name` what `env.id` may name; a value without a name is a module that registers ids."""

RESERVED = set(inspect.signature(gymnasium.make_vec).parameters) - {"kwargs"}
RESERVED |= {"render_mode", "disable_env_checker", "action_repeat", "simulator"}
"""Arguments of gymnasium.make_vec that `make` sets from the recipe's other keys."""

KEYS = FAMILY_KEYS | {"threads"}
"""Keys of a recipe that are keyword arguments of flowrl's environments, and so are not in `options`."""

WHAT = "a class derived from gymnasium.Env, a function that returns such an environment, a task (a class derived from \
flowrl.envs.Task), a class derived from gymnasium.vector.VectorEnv, or a Gymnasium EnvSpec"


@dataclass
class CodeSpec(EnvSpec):
    """The constructors of an environment that is not registered: the user's own code, or an entry point's."""

    text: str = ""  # the `env.id` that names it


def find(id: str) -> EnvSpec:
    """Return the constructors of the environment `id`.

    Raises UsageError for an id that does not exist, for code that the user has not named or that cannot be loaded, and
    for an object that is no environment.
    """
    if id in gymnasium.registry:
        return gymnasium.registry[id]
    if user_code.is_code(id):
        return _of_code(id)
    if (offered := _offered(id)) is not None:
        return _spec(offered, id)
    if id in gymnasium.registry:  # by a module that `_offered` has imported
        return gymnasium.registry[id]
    known = [*gymnasium.registry, *offers()]
    by_lower = {name.lower(): name for name in known}
    hint = did_you_mean(id, known) or did_you_mean(id.lower(), by_lower)
    for lower, name in by_lower.items():
        hint = hint.replace(repr(lower), repr(name))
    raise UsageError(
        f"env.id: there is no environment {id!r}.{hint} `flowrl envs` lists them. One of your own is named by its "
        "file, as in my_env.py:MyEnv; where your code registers the id, type --import my_env.py."
    )


def of_spec(spec: EnvSpec) -> EnvSpec | str:
    """Return what Gymnasium makes environments of: the id of a registered `spec`, else the `spec` itself."""
    return spec.id if gymnasium.registry.get(spec.id) is spec else spec


def limit_of(settings: EnvSettings) -> int | None:
    """Return the time limit of an episode that the registration or an option sets; None where none is known."""
    limit = settings.options.get("max_episode_steps", find(settings.id).max_episode_steps)
    return limit if isinstance(limit, int) else None


def steps_together(spec: EnvSpec) -> bool:
    """Return whether `spec` has a vector environment that flowrl steps as it is: one of our own families, a task or a
    vector environment of the user."""
    return family_of(spec.id).env is not None or (isinstance(spec, CodeSpec) and spec.vector_entry_point is not None)


def is_ours(spec: EnvSpec) -> bool:
    """Return whether a family of ours has registered the environment."""
    return family_of(spec.id).env is not None


def keys_of(spec: EnvSpec) -> frozenset[str]:
    """Return the keys of the block `env` that the environment reads itself, and that are no options of it."""
    return KEYS if is_ours(spec) else frozenset({"threads"}) if steps_together(spec) else frozenset()


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


def offers() -> dict[str, list[EntryPoint]]:
    """Return the environments that installed packages offer, by their names."""
    return of_group(GROUP)


def _offered(id: str) -> Any:
    """Return what the entry point `id` names, or None; modules among the entry points are imported when none has it."""
    offered = offers()
    if id not in offered:
        for same in offered.values():
            for offer in same:
                if not offer.attr:
                    _load(offer)
        return None
    first, *others = offered[id]
    if others:
        raise UsageError(
            f"env.id {id!r}: {len(others) + 1} packages offer an environment of this name: "
            f"{' and '.join(map(origin, offered[id]))}. Uninstall one, or name the code: env.id: {first.value}."
        )
    loaded = _load(first)
    return loaded if first.attr else None


def _load(offer: EntryPoint) -> Any:
    try:
        return offer.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"the environment {offer.name!r} of {origin(offer)} ({offer.value}) cannot be loaded: {in_one_line(error)}."
        ) from error


def _of_code(id: str) -> EnvSpec:
    name = user_code.parse(id)
    if not name.attribute or not name.source:
        raise UsageError(
            f"env.id {id!r} names no environment: write {name.source or 'my_env.py'}:Name, as in my_env.py:MyEnv."
        )
    if not name.attribute.isidentifier():  # Gymnasium's own form, module:Id-v0
        user_code.load(name.source, "env.id")
        if name.attribute not in gymnasium.registry:
            hint = did_you_mean(name.attribute, gymnasium.registry)
            raise UsageError(f"env.id {id!r}: {name.source} registers no environment {name.attribute!r}.{hint}")
        return gymnasium.registry[name.attribute]
    return _spec(user_code.load(id, "env.id"), id)


def _spec(target: Any, id: str) -> EnvSpec:
    """Return the constructors that `target`, which the id names, stands for; raises UsageError for anything else."""
    if isinstance(target, EnvSpec):
        return target
    if not callable(target):
        was = f"the module {target.__name__}" if inspect.ismodule(target) else f"an object of {type(target).__name__}"
        raise UsageError(f"env.id {id!r} is {was}, and no environment can be made with it. It must be {WHAT}.")
    if isinstance(target, type) and not issubclass(target, gymnasium.Env | VectorEnv) and not is_task(target):
        old = "; a class of the old `gym` is wrapped with shimmy" if _is_of_old_gym(target) else ""
        raise UsageError(
            f"env.id {id!r}: the class {target.__name__} is not derived from gymnasium.Env. Write class "
            f"{target.__name__}(gymnasium.Env), with reset, step, observation_space and action_space{old}."
        )
    return _spec_of(target, id)


@cache
def _spec_of(target: Any, id: str) -> EnvSpec:
    name = getattr(target, "__name__", "")
    name = name if name.isidentifier() else "environment"
    if is_task(target):
        from flowrl.envs import own_task

        one, many = partial(own_task.single, target), partial(own_task.together, target)
        return CodeSpec(name, entry_point=one, vector_entry_point=many, text=id)
    makes_many = issubclass(target, VectorEnv) if isinstance(target, type) else "num_envs" in _parameters(target)
    if makes_many:
        return CodeSpec(name, vector_entry_point=target, text=id)
    return CodeSpec(name, entry_point=target, text=id)


def is_task(target: Any) -> bool:
    """Return whether `target` is a task on the fast simulation."""
    tasks = sys.modules.get("flowrl.envs.simulation.task")  # nothing is a subclass of what was not imported
    return tasks is not None and isinstance(target, type) and issubclass(target, tasks.Task)


def _parameters(target: Any) -> set[str]:
    try:
        return set(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return set()


def _is_of_old_gym(target: type) -> bool:
    return any(ancestor.__module__.split(".")[0] == "gym" for ancestor in target.__mro__)
