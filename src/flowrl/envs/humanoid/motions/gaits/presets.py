"""Gaits by name: `gait:walk`, `gait:walk:speed=1.0:arms=wave`, and sets of them such as `gait:styles`.

A name is `gait:NAME` or `gait:NAME:KEY=VALUE:…`; the keys of a set apply to each of its members. A motion's name is its
source without `gait:`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.humanoid.model import CONTROL_RATE
from flowrl.envs.humanoid.motions.gaits import arm_styles
from flowrl.envs.humanoid.motions.gaits.gait import Gait, RootPath, generate
from flowrl.envs.humanoid.motions.motion import Motion

PREFIX = "gait:"

SINGLES: dict[str, tuple[Gait, str]] = {
    "stand": (Gait(arms="still", steps=False), "stands still"),
    "step": (Gait(), "steps in place"),
    "walk": (Gait(RootPath(0.6)), "walks forwards at 0.6 m/s"),
    "back": (Gait(RootPath(-0.4)), "walks backwards at 0.4 m/s"),
    "sidestep": (Gait(RootPath(sideways=0.3)), "steps to the left at 0.3 m/s"),
    "turn": (Gait(RootPath(turn=0.6)), "turns to the left in place, at 0.6 rad/s"),
    "curve": (Gait(RootPath(0.6, turn=0.4)), "walks a curve to the left, at 0.6 m/s and 0.4 rad/s"),
}

SPEEDS = ("walk:speed=-0.5", "walk:speed=-0.3", "walk:speed=0.3", "walk", "walk:speed=0.9", "walk:speed=1.2")
TURNS = (
    *("walk:turn=-0.6", "walk:turn=-0.3", "walk:turn=0.3", "walk:turn=0.6", "turn:turn=-0.6", "turn"),
    *("sidestep:sideways=-0.3", "sidestep"),
)
STYLES = tuple(f"walk:arms={style}:step={step}" for style in arm_styles.STYLES for step in ("0.35", "0.58"))
SETS: dict[str, tuple[tuple[str, ...], str]] = {
    "speeds": (SPEEDS, "straight on, from -0.5 to 1.2 m/s"),
    "turns": (TURNS, "curves, turns in place, sidesteps"),
    "styles": (STYLES, "walks along the same root path: six arm styles, two step times"),
    "all": (("stand", "step", *SPEEDS, *TURNS, *STYLES), "all of these"),
}


@dataclass(frozen=True)
class Key:
    """A numeric parameter of a gait."""

    low: float
    high: float
    words: str
    apply: Callable[[Gait, float], Gait]


KEYS: dict[str, Key] = {
    "speed": Key(-0.5, 1.2, "m/s forwards", lambda gait, x: replace(gait, path=replace(gait.path, forward=x))),
    "sideways": Key(-0.4, 0.4, "m/s to the left", lambda gait, x: replace(gait, path=replace(gait.path, sideways=x))),
    "turn": Key(-0.6, 0.6, "rad/s to the left", lambda gait, x: replace(gait, path=replace(gait.path, turn=x))),
    "step": Key(0.3, 0.7, "s per step", lambda gait, x: replace(gait, stride=round(2 * CONTROL_RATE * x))),
    "seconds": Key(2, 120, "s, at least", lambda gait, x: replace(gait, seconds=x)),
}
ARMS = "arms"  # the key of the arm style


def names() -> list[str]:
    """Return every gait and every set of gaits, as a source."""
    return [f"{PREFIX}{name}" for name in (*SINGLES, *SETS)]


def motions(source: str) -> list[Motion]:
    """Return the motions of a source such as 'gait:walk'. Raises UsageError."""
    head, *settings = source.removeprefix(PREFIX).split(":")
    if head not in SINGLES and head not in SETS:
        known = [*SINGLES, *SETS]
        raise UsageError(
            f"{source}: there is no gait {head!r}.{did_you_mean(head, known)} There are: {', '.join(known)}."
        )
    members = SETS[head][0] if head in SETS else (head,)
    generated = (_motion(member, settings, source) for member in members)
    return list({motion.name: motion for motion in generated}.values())


def _motion(member: str, settings: list[str], source: str) -> Motion:
    """Return the motion of one gait, `member`, with the settings that `source` adds."""
    head, *own = member.split(":")
    gait = SINGLES[head][0]
    given: dict[str, str] = {}
    for setting in [*own, *settings]:
        key, _, value = setting.partition("=")
        gait = _set(gait, key, value, source)
        given[key] = value
    name = ":".join([head, *(f"{key}={value}" for key, value in given.items())])
    try:
        return generate(gait, name, f"{PREFIX}{name}")
    except ValueError as error:
        raise UsageError(
            f"{source}: {PREFIX}{member}: {error}. Choose a gait that steps, a lower speed, or a shorter time per "
            "step, such as step=0.4."
        ) from error


def _set(gait: Gait, key: str, value: str, source: str) -> Gait:
    if key == ARMS:
        for style in arm_styles.STYLES:
            if value == style:
                return replace(gait, arms=style)
        raise UsageError(
            f"{source}: there is no arm style {value!r}.{did_you_mean(value, arm_styles.STYLES)} "
            f"There are: {', '.join(arm_styles.STYLES)}."
        )
    if key not in KEYS:
        known = [*KEYS, ARMS]
        raise UsageError(
            f"{source}: a gait has no key {key!r}.{did_you_mean(key, known)} There are: "
            f"{', '.join(known)}; write them as in {PREFIX}walk:speed=1.0."
        )
    limits = KEYS[key]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not limits.low <= number <= limits.high:
        raise UsageError(
            f"{source}: {key}={value}: expected a number from {limits.low} to {limits.high} ({limits.words})."
        )
    return limits.apply(gait, number)
