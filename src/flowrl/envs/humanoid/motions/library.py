"""Load motions by their sources, which a recipe lists under `motions:`.

A source is a gait (`gait:walk`, see `gaits.presets`), a file, one of its motions (`many.pkl/name`), a folder, or a
pattern such as `motions/*.npz`; or a mapping {source: …, weight: …}. The motions of one source share its weight, which
is 1 by default.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.contracts.notices import say
from flowrl.envs.humanoid.model import CONTROL_RATE
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.gaits import presets
from flowrl.envs.humanoid.motions.importers import reader
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.motions.quaternions import Array, axis_rotation, inverse, multiply

EXAMPLE = "Write a gait such as gait:walk, a file, a folder, or {source: motions/*.npz, weight: 2}."
SEAM = CONTROL_RATE // 2  # frames over which the end of a cycle is blended into its beginning


def load(sources: Sequence[str | Mapping[str, Any]]) -> list[tuple[Motion, float]]:
    """Return every motion of `sources` with its weight; a motion that several sources name has the sum of theirs.

    Raises UsageError for an unknown source, and for a file without a motion.
    """
    motions: dict[str, Motion] = {}
    weights: dict[str, float] = {}
    for source in sources:
        name, weight = _named(source)
        found = find(name)
        for motion in found:
            motions[motion.source] = motion
            weights[motion.source] = weights.get(motion.source, 0.0) + weight / len(found)
    if not motions:
        raise UsageError(f"there are no motions to imitate: the list of sources is empty. {EXAMPLE}")
    return [(motion, weights[source]) for source, motion in motions.items()]


def _named(source: object) -> tuple[str, float]:
    """Return a source's name and weight."""
    if isinstance(source, str):
        return source, 1.0
    if not isinstance(source, Mapping) or not isinstance(source.get("source"), str):
        raise UsageError(f"{source!r} is not a source of motions. {EXAMPLE}")
    for key in source:
        if key not in ("source", "weight"):
            known = ("source", "weight")
            raise UsageError(f"{dict(source)}: there is no key {key!r}.{did_you_mean(str(key), known)} {EXAMPLE}")
    weight = source.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise UsageError(f"{source['source']}: weight: {weight!r} is not a number greater than 0. {EXAMPLE}")
    return source["source"], float(weight)


def find(source: str) -> list[Motion]:
    """Return the motions of one source. Raises UsageError."""
    if source.startswith(presets.PREFIX):
        return presets.motions(source)
    path = Path(source).expanduser()
    if path.parent.is_file():  # one of a file's motions
        return _one_of(reader.read(path.parent), path)
    return _of_folder(path) if path.is_dir() else [motion for file in files(source) for motion in reader.read(file)]


def _of_folder(folder: Path) -> list[Motion]:
    """Return the motions of the files in a folder; warns of archives there that hold none. Raises UsageError."""
    motions, skipped = [], []
    for file in files(str(folder)):
        try:
            motions += reader.read(file)
        except reader.NotAMotion as error:
            skipped.append((file, error))
    if not motions:
        raise skipped[0][1]
    for file, _ in skipped:
        say(f"{file} is skipped: it holds no motion")
    return motions


def _one_of(motions: list[Motion], path: Path) -> list[Motion]:
    """Return the motion that `path` names, FILE/NAME, among a file's motions. Raises UsageError."""
    chosen = [motion for motion in motions if motion.source == str(path)]
    if not chosen:
        names = [motion.source.removeprefix(f"{path.parent}/") for motion in motions]
        raise UsageError(
            f"{path.parent} has no motion {path.name!r}.{did_you_mean(path.name, names)} It has {', '.join(names[:9])}."
        )
    return chosen


def files(source: str) -> list[Path]:
    """Return the files of a source: a file, those in a folder, or those that match. Raises UsageError."""
    path = Path(source).expanduser()
    if path.is_dir():
        try:
            found = [each for each in path.iterdir() if each.suffix.lower() in reader.READERS]
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror}. Name a folder of motions.") from error
        if not found:
            raise UsageError(f"{source} is a folder without motions ({', '.join(reader.READERS)}).")
        return sorted(found)
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207  absolute patterns
    if matches and all(match.is_dir() for match in matches):
        raise UsageError(f"{source}: only folders match. Type {source}/*.npz for the files in them.")
    if matches:
        return [match for match in matches if not match.is_dir()]
    near = did_you_mean(f"{presets.PREFIX}{source}", presets.names())
    seen = "" if path.is_absolute() else f" in {Path.cwd()}"
    raise UsageError(f"{source}: there is no such file{seen}, nor a gait of that name.{near} {EXAMPLE}")


def unrolled(motion: Motion, seconds: float) -> Motion:
    """Return the motion, repeated until it lasts `seconds`; a motion that does not loop or is long enough is unchanged.

    Each cycle begins at the position and heading where the previous one ended: its frames are rotated about z and
    displaced. The remaining differences (angles, tilt, height) are blended over the last frames of a cycle.
    """
    if not motion.loops or motion.seconds >= seconds:
        return motion
    cycle = _closed(motion.qpos)
    start, end = cycle[0], cycle[-1]
    turn = _turn(start, end)
    parts = [cycle]
    while sum(len(part) for part in parts) - 1 < seconds * CONTROL_RATE:
        moved = cycle[1:].copy()
        last = parts[-1][-1]
        total = turn * len(parts)
        moved[:, :2] = last[:2] + quaternions.rotate(axis_rotation("z", total), moved[:, :3] - start[:3])[:, :2]
        moved[:, 3:ROOT_SIZE] = multiply(axis_rotation("z", total), moved[:, 3:ROOT_SIZE])
        parts.append(moved)
    qpos = np.concatenate(parts)[: math.ceil(seconds * CONTROL_RATE - 1e-9) + 1]
    return Motion(motion.name, qpos, motion.source, loops=False, clamped=motion.clamped)


def _closed(qpos: Array) -> Array:
    """Return the cycle (frames, 35) with its last frame equal to its first, except for x, y and the heading."""
    first, last = qpos[0], qpos[-1]
    turn = axis_rotation("z", _turn(first, last))
    tilt = quaternions.to_vector(multiply(inverse(last[3:ROOT_SIZE]), turn, first[3:ROOT_SIZE]))
    share = np.clip(1 - np.arange(len(qpos))[::-1] / min(SEAM, len(qpos) - 1), 0, 1)[:, None]
    share = share**2 * (3 - 2 * share)
    closed = qpos.copy()
    closed[:, 2:3] += share * (first[2] - last[2])
    closed[:, 3:ROOT_SIZE] = multiply(qpos[:, 3:ROOT_SIZE], quaternions.from_vector(share * tilt))
    closed[:, ROOT_SIZE:] += share * (first[ROOT_SIZE:] - last[ROOT_SIZE:])
    return closed


def _turn(first: Array, last: Array) -> float:
    """Return the root's rotation about z in rad from one frame to another."""
    w, _, _, z = multiply(last[3:ROOT_SIZE], inverse(first[3:ROOT_SIZE]))
    return float(2 * np.arctan2(z, w))
