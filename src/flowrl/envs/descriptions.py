"""The environments that flowrl can train on, and facts on each of them: `flowrl envs`."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id

from flowrl.contracts.offers import origin
from flowrl.contracts.user_code import is_code
from flowrl.envs.families import FAMILIES, family_of
from flowrl.envs.family import Facts
from flowrl.envs.lookup import constructor_options, find, offers

if TYPE_CHECKING:
    from flowrl.envs.adapter import Adapter
    from flowrl.envs.settings import EnvSettings

# Gymnasium's environments with Box observations and actions, by origin: the package each needs, and their names
# (None: all). Listed here because finding out means constructing every one of them.
GYMNASIUM: dict[str, tuple[str, set[str] | None]] = {
    "classic_control": ("gymnasium", {"Pendulum", "MountainCarContinuous"}),
    "mujoco": ("mujoco", None),
    "box2d": ("Box2D", {"BipedalWalker", "BipedalWalkerHardcore", "CarRacing", "LunarLanderContinuous"}),
}


EXAMPLE = next(iter(FAMILIES[0].ids))
"""An id to describe."""


def catalogue() -> list[dict[str, str]]:
    """List id, origin and note of every registered and installed environment: ours, Gymnasium's, then others.

    Those of entry points are listed, and their packages not imported.

    No environment is constructed, so the spaces of others may not fit.
    """
    newest = [spec for spec in gymnasium.registry.values() if spec.id == newest_id(spec)]
    rows = [row for row in map(entry, newest) if row is not None]
    for name, same in offers().items():
        if name not in gymnasium.registry:
            note = "spaces not checked" if same[0].attr else "a module that registers ids"
            rows.append({"id": name, "origin": origin(same[0]), "episode": "", "note": note})
    order = {"flowrl": 0, **{f"gymnasium {name}": 1 + place for place, name in enumerate(GYMNASIUM)}}
    return sorted(rows, key=lambda row: (order.get(row["origin"], len(order)), row["origin"], row["id"]))


def newest_id(spec: EnvSpec) -> str:
    """Return the id of the highest version of an environment."""
    version = find_highest_version(spec.namespace, spec.name)
    return get_env_id(spec.namespace, spec.name, version)


def entry(spec: EnvSpec) -> dict[str, str] | None:
    """Return a row of the catalogue; None for an environment without Box spaces, or whose package is missing."""
    origin = origin_of(spec)
    if origin.startswith("gymnasium"):
        package, names = GYMNASIUM.get(origin.partition(" ")[2], ("", set()))
        fits = names is None or spec.name in names
        if not fits or not package or find_spec(package) is None:
            return None
    note = "" if origin == "flowrl" or origin.startswith("gymnasium") else "spaces not checked"
    return {"id": spec.id, "origin": origin, "episode": str(spec.max_episode_steps or ""), "note": note}


def origin_of(spec: EnvSpec) -> str:
    """Return 'flowrl', 'gymnasium mujoco', or the name of another package."""
    if family_of(spec.id).env is not None:
        return "flowrl"
    module = spec.entry_point.split(":")[0] if isinstance(spec.entry_point, str) else ""
    if module.startswith("gymnasium.envs."):
        return f"gymnasium {module.split('.')[2]}"
    return module.split(".")[0] or "gymnasium"


def describe(settings: EnvSettings) -> Facts:
    """Make the environment of `settings`, reset it once, and return all facts on it; raises what `factory.make` does.

    An image is described, too, though a run needs `env.flatten` to train on it.
    """
    from flowrl.envs.factory import make
    from flowrl.envs.observations import layout, named_leaves, said_layout
    from flowrl.envs.refusals import is_image

    id = settings.id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `newer_version` reports an old version
        adapter = make(settings.model_copy(update={"flatten": True}), count=1)
    try:
        adapter.reset(0)
        spec = find(id)
        registered = gymnasium.registry.get(id) is spec
        values = {
            "id": id,
            "origin": origin_of(spec) if registered else "your code" if is_code(id) else "an installed package",
            **spaces_of(adapter),
            "episode_limit": spec.max_episode_steps,
            "solved_at": spec.reward_threshold,
            "newer_version": newest_id(spec) if registered and newest_id(spec) != id else None,
            "options": sorted(constructor_options(spec)),
            "parts_of_observation": [part._asdict() for part in layout(adapter.declared)],
            "image": any(is_image(leaf) for _, leaf in named_leaves(adapter.declared, "")),
            "native": adapter.native,
            "exact_resume": adapter.exact_resume,
            "inexact_because": adapter.inexact_because,
        }
    finally:
        adapter.close()
    further = family_of(id).facts(id)
    values |= further.values
    order = said_layout(adapter.declared)
    further = further._replace(
        lines=[
            *([("observation", order)] if order else []),
            *([("observation", "an image: a run needs env.flatten: true, or a wrapper")] if values["image"] else []),
            *further.lines,
        ]
    )
    spaces = [line for name in ("observation", "action") for line in space_lines(name, values[name], further)]
    others = [line for line in further.lines if line[0] not in ("observation", "action")]
    own = [] if registered or not values["options"] else [("env.options", ", ".join(values["options"]))]
    return Facts(values, [("id", id), *spaces, *episode_lines(values), *others, *own, *running_lines(values)])


def spaces_of(adapter: Adapter) -> dict[str, Any]:
    """Return shapes and bounds of the observation and the action."""
    facts: dict[str, Any] = {}
    for name, space in (("observation", adapter.observation_space), ("action", adapter.action_space)):
        low, high = space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist()
        facts[name] = {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    return facts


def space_lines(name: str, space: dict[str, Any], further: Facts) -> list[tuple[str, str]]:
    """Return a line on the space `name`, and below it the family's lines on it."""
    shape = "x".join(str(size) for size in space["shape"]) or "1"
    first = (name, f"{shape} {space['dtype']}, {bounds(space['low'], space['high'])}")
    return [first, *(("", text) for about, text in further.lines if about == name)]


def episode_lines(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines on how long an episode is, and from which return on the task counts as solved."""
    limit, solved_at = values["episode_limit"], values["solved_at"]
    lines = [("episode", "no step limit" if limit is None else f"at most {limit} steps")]
    return lines if solved_at is None else [*lines, ("solved at", f"return {solved_at:g}")]


def running_lines(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines on how flowrl steps and resumes the environment, and on a newer version."""
    exact = "exact, bit for bit, in mid-episode"
    lines = [
        ("stepped", "natively, all together" if values["native"] else "by Gymnasium, one by one"),
        ("resume", exact if values["exact_resume"] else f"inexact, in new episodes: {values['inexact_because']}"),
    ]
    return [*lines, ("newer", values["newer_version"])] if values["newer_version"] else lines


def bounds(low: list[float], high: list[float]) -> str:
    """Return the bounds of a box in short: one interval if all dimensions share it, else each, or 'unbounded'."""
    pairs = list(zip(low, high, strict=True))
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    if pairs == [(float("-inf"), float("inf"))]:
        return "unbounded"
    shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in pairs[:6])
    return shown + (f", … ({len(pairs)} dimensions)" if len(pairs) > 6 else "")
