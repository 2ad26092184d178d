"""Which environments there are to train on, and what each is like: `flowrl envs`."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from flowrl.envs.adapter import Adapter

# Gymnasium's own environments with Box observations and actions, by origin: the package each needs, and which of
# them (None: all). Known here because finding out means constructing every one of them.
GYMNASIUM: dict[str, tuple[str, set[str] | None]] = {
    "classic_control": ("gymnasium", {"Pendulum", "MountainCarContinuous"}),
    "mujoco": ("mujoco", None),
    "box2d": ("Box2D", {"BipedalWalker", "BipedalWalkerHardcore", "CarRacing", "LunarLanderContinuous"}),
}


def catalogue() -> list[dict[str, str]]:
    """Id, origin and note of every environment that is registered and installed: ours, then Gymnasium's, then others.

    No environment is constructed, so the spaces of others are not known to fit.
    """
    rows = [row for spec in newest(list(gymnasium.registry.values())) if (row := entry(spec)) is not None]
    order = {"flowrl": 0, **{f"gymnasium {name}": 1 + place for place, name in enumerate(GYMNASIUM)}}
    return sorted(rows, key=lambda row: (order.get(row["origin"], len(order)), row["origin"], row["id"]))


def newest(specs: list[EnvSpec]) -> list[EnvSpec]:
    """The highest version of every environment."""
    best: dict[tuple[str | None, str], EnvSpec] = {}
    for spec in specs:
        key = (spec.namespace, spec.name)
        if key not in best or (spec.version or 0) > (best[key].version or 0):
            best[key] = spec
    return list(best.values())


def entry(spec: EnvSpec) -> dict[str, str] | None:
    """One row of the catalogue; None for an environment without Box spaces, or whose package is missing."""
    origin = origin_of(spec)
    if origin.startswith("gymnasium"):
        package, names = GYMNASIUM.get(origin.partition(" ")[2], ("", set()))
        fits = names is None or spec.name in names
        if not fits or not package or find_spec(package) is None:
            return None
    note = "" if origin == "flowrl" or origin.startswith("gymnasium") else "spaces not checked"
    return {"id": spec.id, "origin": origin, "episode": str(spec.max_episode_steps or ""), "note": note}


def origin_of(spec: EnvSpec) -> str:
    """Whose it is: 'flowrl', 'gymnasium mujoco', or the package of somebody else."""
    if spec.namespace == "flowrl":
        return "flowrl"
    module = spec.entry_point.split(":")[0] if isinstance(spec.entry_point, str) else ""
    if module.startswith("gymnasium.envs."):
        return f"gymnasium {module.split('.')[2]}"
    return module.split(".")[0] or "gymnasium"


def describe(id: str) -> dict[str, Any]:
    """What is known of one environment, after making it and resetting it once."""
    from flowrl.envs.factory import make
    from flowrl.envs.settings import EnvSettings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an old version is said below
        adapter = make(EnvSettings(id=id, count=1))
    try:
        adapter.reset(0)
        spec = gymnasium.registry[id]
        name = (spec.namespace, spec.name)
        (latest,) = newest([s for s in gymnasium.registry.values() if (s.namespace, s.name) == name])
        description: dict[str, Any] = {"id": id, "origin": origin_of(spec)} | spaces_of(adapter)
        description["episode_limit"] = spec.max_episode_steps
        description["solved_at"] = spec.reward_threshold
        description["newer_version"] = None if latest.id == spec.id else latest.id
        description["native"] = adapter.native
        description["exact_resume"] = adapter.exact_resume
        description["inexact_because"] = adapter.inexact_because
    finally:
        adapter.close()
    if id == "flowrl/GridWorld-v0":
        return description | gridworld_facts()
    if id == "flowrl/HumanoidTrack-v0":
        return description | humanoid_facts()
    if origin_of(spec) == "flowrl":
        return description | suite_facts(spec.name)
    return description


def spaces_of(adapter: Adapter) -> dict[str, Any]:
    """Shapes and bounds of the observation and the action."""
    facts: dict[str, Any] = {}
    for name, space in (("observation", adapter.observation_space), ("action", adapter.action_space)):
        low, high = space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist()
        facts[name] = {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    return facts


def gridworld_facts() -> dict[str, Any]:
    """Rewards, episode limit and modes of GridWorld."""
    from flowrl.envs.gridworld import DEATH_REWARD, GOAL_REWARD, MODES, layout

    layouts = {mode: layout(mode) for mode in MODES}
    cells = {
        mode: {
            "goal": int(at.goal.sum()),
            "death": int(at.death.sum()),
            "wall": int(at.wall.sum()),
            "start": len(at.starts),
        }
        for mode, at in layouts.items()
    }
    return {
        "episode_limit": 100,
        "rewards": {"goal": GOAL_REWARD, "death": DEATH_REWARD, "else": 0.0},
        "modes": cells,
    }


def suite_facts(task: str) -> dict[str, Any]:
    """What a control task shows, what it rewards, how its episodes start, and its options."""
    from flowrl.envs.dm_control.environment import DMControlVectorEnv
    from flowrl.envs.dm_control.tasks import TASKS

    kind, profiles = TASKS[task]
    return {
        "parts": DMControlVectorEnv(task, 1).runner.task.observation_parts,
        "about": dict(kind.facts),
        "options": {"profile": list(profiles)},
    }


def humanoid_facts() -> dict[str, Any]:
    """The same of the humanoid that imitates, and how many numbers of an observation each goal lets a policy see."""
    from flowrl.envs.humanoid.episode_starts import SAMPLINGS
    from flowrl.envs.humanoid.motions.gaits.presets import SETS, SINGLES
    from flowrl.envs.humanoid.observation import FOLLOWED, PARTS, visible
    from flowrl.envs.humanoid.tracking import TOO_FAR, HumanoidTrack

    gaits = [f"gait:{name}" for name in (*SINGLES, *SETS)]
    return {
        "parts": PARTS,
        "visible": {goal: int(visible(goal).sum()) for goal in FOLLOWED},
        "about": dict(HumanoidTrack.facts),
        "settings": {
            "goal": list(FOLLOWED),
            "motions": sorted(gaits, key=lambda gait: gait != "gait:walk"),
        },
        "options": {
            "sampling": list(SAMPLINGS),
            "evaluation": ["false", "true"],
            "self_collision": ["false", "true"],
            "termination_distance": [f"{TOO_FAR} m"],
        },
    }


def facts(description: dict[str, Any]) -> list[tuple[str, str]]:
    """A description in words: (what, how)."""
    told = [("id", description["id"])]
    for name in ("observation", "action"):
        space = description[name]
        shape = "x".join(str(size) for size in space["shape"]) or "1"
        told.append((name, f"{shape} {space['dtype']}, {bounds(space['low'], space['high'])}"))
        if name == "observation" and "parts" in description:
            parts = ", ".join(f"{part} {size}" for part, size in description["parts"].items())
            told += [("", f"{parts}:"), ("", description["about"]["observation"])]
            for goal, numbers in description.get("visible", {}).items():
                told.append(("", f"goal {goal}: a policy sees {numbers} of these numbers"))
        if name == "action" and "action" in description.get("about", {}):
            told.append(("", description["about"]["action"]))
    limit = description["episode_limit"]
    told.append(("episode", "no step limit" if limit is None else f"at most {limit} steps"))
    if description["solved_at"] is not None:
        told.append(("solved at", f"return {description['solved_at']:g}"))
    if "rewards" in description:
        rewards = [
            f"{name} {value:+g}" if value else f"{name} 0" for name, value in description["rewards"].items()
        ]
        told.append(("reward", ", ".join(rewards)))
        for mode, cells in description["modes"].items():
            counts = ", ".join(f"{count} {kind}" for kind, count in cells.items() if count)
            told.append(("mode", f"{mode}: {counts} cells"))
    if "about" in description:
        about = description["about"]
        told += [(name, about[name]) for name in ("start", "reward", "end") if name in about]
        told += [(f"env.{name}", choices(values)) for name, values in description.get("settings", {}).items()]
        told += [
            ("env.options", f"{name}: {choices(values)}") for name, values in description["options"].items()
        ]
    told.append(
        ("stepped", "natively, all together" if description["native"] else "by Gymnasium, one by one")
    )
    because = description["inexact_because"]
    exact = "exact, bit for bit, in mid-episode"
    told.append(("resume", exact if description["exact_resume"] else f"inexact, in new episodes: {because}"))
    if description["newer_version"]:
        told.append(("newer", description["newer_version"]))
    return told


def choices(values: list[str]) -> str:
    """What an option can be; the first is what it is by itself."""
    return ", ".join([f"{values[0]} (default)", *values[1:]])


def bounds(low: list[float], high: list[float]) -> str:
    """The bounds of a box in short: one interval if all dimensions share it, else each; 'unbounded' for none."""
    pairs = list(zip(low, high, strict=True))
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    if pairs == [(float("-inf"), float("inf"))]:
        return "unbounded"
    shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in pairs[:6])
    return shown + (f", … ({len(pairs)} dimensions)" if len(pairs) > 6 else "")
