"""`flowrl envs` lists the environments that flowrl can train on; `flowrl envs ID` describes one."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from flowrl.cli.output import next_command, print_json

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from flowrl.envs import Simulation

# Gymnasium's own environments with Box observations and actions, by origin: the package each needs, and which of
# them (None: all). Known here because finding out means constructing every one of them.
GYMNASIUM: dict[str, tuple[str, set[str] | None]] = {
    "classic_control": ("gymnasium", {"Pendulum", "MountainCarContinuous"}),
    "mujoco": ("mujoco", None),
    "box2d": ("Box2D", {"BipedalWalker", "BipedalWalkerHardcore", "CarRacing", "LunarLanderContinuous"}),
}
RECIPES = {
    "flowrl/GridWorld-v0": "gridworld.yaml",
    "Pendulum-v1": "pendulum.yaml",
    "Hopper-v5": "hopper.yaml",
    "HalfCheetah-v5": "halfcheetah.yaml",
}

ID = typer.Argument(None, metavar="[ID]", help="A Gymnasium id to describe; without it all are listed.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")


def envs(id: str | None = ID, json: bool = JSON) -> None:
    """List the environments, or describe one: spaces, episode limit, exact resume, how to train on it."""
    if id is None:
        listed = catalogue()
        if json:
            print_json(listed)
        else:
            print_catalogue(listed)
        next_command("flowrl envs flowrl/GridWorld-v0")
        return
    description = describe(id)
    if json:
        print_json(description)
    else:
        print_description(description)
    next_command(description["train"])


def catalogue() -> list[dict[str, str]]:
    """Id, origin and note of every environment that is registered and installed: ours, then Gymnasium's, then others.

    No environment is constructed, so the spaces of others are not known to fit.
    """
    import gymnasium

    import flowrl.envs  # noqa: F401  (registers ours)

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
    module = spec.entry_point.split(":")[0] if isinstance(spec.entry_point, str) else ""
    limit = str(spec.max_episode_steps or "")
    if spec.namespace == "flowrl":
        return {"id": spec.id, "origin": "flowrl", "episode": limit, "note": ""}
    if module.startswith("gymnasium.") or spec.entry_point is None or not module:
        group = module.split(".")[2] if module.startswith("gymnasium.envs.") else ""
        package, names = GYMNASIUM.get(group, ("", set()))
        fits = names is None or spec.name in names
        if not fits or not package or find_spec(package) is None:
            return None
        return {"id": spec.id, "origin": f"gymnasium {group}", "episode": limit, "note": ""}
    return {"id": spec.id, "origin": module.split(".")[0], "episode": limit, "note": "spaces not checked"}


def describe(id: str) -> dict[str, Any]:
    """What is known of one environment, after making it and resetting it once."""
    import gymnasium

    from flowrl.envs import EnvSettings, make

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an old version is said below
        simulation = make(EnvSettings(id=id, count=1))
    try:
        simulation.reset(0)
        spec = gymnasium.registry[id]
        latest = newest([other for other in gymnasium.registry.values() if other.name == spec.name])
        description: dict[str, Any] = {"id": id} | spaces_of(simulation)
        description["episode_limit"] = spec.max_episode_steps
        description["solved_at"] = spec.reward_threshold
        description["newer_version"] = next(
            (s.id for s in latest if (s.version or 0) > (spec.version or 0)), None
        )
        description["exact_resume"] = simulation.exact_resume
        description["inexact_because"] = simulation.inexact_because
    finally:
        simulation.close()
    if id == "flowrl/GridWorld-v0":
        description |= gridworld_facts()
    recipe = RECIPES.get(id)
    base = "halfcheetah.yaml" if "mujoco" in str(spec.entry_point) else "pendulum.yaml"
    description["train"] = f"flowrl train {recipe}" if recipe else f"flowrl train {base} --set env.id={id}"
    return description


def spaces_of(simulation: Simulation) -> dict[str, Any]:
    """Shapes and bounds of the observation and the action."""
    facts: dict[str, Any] = {}
    for name, space in (("observation", simulation.observation_space), ("action", simulation.action_space)):
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


def print_catalogue(rows: list[dict[str, str]]) -> None:
    """The catalogue as text, grouped by origin."""
    width = max(len(row["id"]) for row in rows)
    origin = None
    for row in rows:
        if row["origin"] != origin:
            origin = row["origin"]
            print(origin)
        episode = f"{row['episode']} steps" if row["episode"] else ""
        print(f"  {row['id']:<{width}}  {episode:<11}{row['note']}".rstrip())


def print_description(description: dict[str, Any]) -> None:
    """One environment as text."""
    print(description["id"])
    for name in ("observation", "action"):
        space = description[name]
        shape = "x".join(str(size) for size in space["shape"]) or "1"
        print(f"  {name:<12} {shape} {space['dtype']}, {bounds(space['low'], space['high'])}")
    print(f"  {'episode':<12} {limit_in_words(description['episode_limit'])}")
    if description["solved_at"] is not None:
        print(f"  {'solved at':<12} return {description['solved_at']:g}")
    if "rewards" in description:
        print(
            f"  {'reward':<12} "
            + ", ".join(f"{name} {value:+g}" for name, value in description["rewards"].items())
        )
        for mode, cells in description["modes"].items():
            counts = ", ".join(f"{count} {kind}" for kind, count in cells.items() if count)
            print(f"  {'mode':<12} {mode}: {counts} cells")
    if description["exact_resume"]:
        print(f"  {'resume':<12} exact, bit for bit, in mid-episode")
    else:
        print(f"  {'resume':<12} inexact (episodes restart): {description['inexact_because']}")
    if description["newer_version"]:
        print(f"  {'newer':<12} {description['newer_version']}")


def limit_in_words(limit: int | None) -> str:
    """How long an episode may last."""
    return "no step limit" if limit is None else f"at most {limit} steps"


def bounds(low: list[float], high: list[float]) -> str:
    """The bounds of a box in short: one interval if all dimensions share it, else each; 'unbounded' for none."""
    pairs = list(zip(low, high, strict=True))
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    if pairs == [(float("-inf"), float("inf"))]:
        return "unbounded"
    shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in pairs[:6])
    return shown + (f", … ({len(pairs)} dimensions)" if len(pairs) > 6 else "")
