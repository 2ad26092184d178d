"""Read motions from files: each format has a module, and this one chooses it by the file's suffix.

A format's `read` returns the motions in a file's bytes, and raises ValueError, whose message is what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.contracts.regular_files import read_bounded
from flowrl.envs.humanoid.motions.importers import amass, bvh, deepmimic, native, phc, safe_npz
from flowrl.envs.humanoid.motions.motion import Motion

MOST_BYTES = 2**29  # of a file
MOST_TEXT_BYTES = 2**26  # of a file of text, whose numbers take several times the memory
TEXTS = (".txt", ".bvh")

ARCHIVE = (
    "an archive with mjlab's keys (joint_pos, body_pos_w, body_quat_w, fps) for the humanoid's joints, or AMASS's "
    "(trans, poses, mocap_framerate)"
)


class NotAMotion(UsageError):
    """An archive is sound, but holds no motion: such as AMASS's shape.npz, which lies beside the motions."""


def _archive(data: bytes, path: Path) -> list[Motion]:
    arrays = safe_npz.read(data)
    for format in (native, amass):
        if arrays.keys() >= format.KEYS:
            return format.read(arrays, path)
    names = ", ".join(sorted(arrays)) or "no array"
    raise NotAMotion(f"{path} cannot be read as a motion: it is not a motion: it has {names}. Expected: {ARCHIVE}.")


READERS: dict[str, tuple[Callable[[bytes, Path], list[Motion]], str]] = {
    ".npz": (_archive, ARCHIVE),
    ".txt": (deepmimic.read, deepmimic.EXPECTED),
    ".pkl": (phc.read, phc.EXPECTED),
    ".bvh": (bvh.read, bvh.EXPECTED),
}
"""By suffix: the function that reads the file, and what is expected in it."""


def read(path: Path) -> list[Motion]:
    """Return the motions in a file. Raises UsageError."""
    known = READERS.get(path.suffix.lower())
    if known is None:
        raise UsageError(
            f"{path}: motions are read from {', '.join(READERS)}.{did_you_mean(path.suffix.lower(), READERS)}"
        )
    reader, expected = known
    try:
        limit = min(MOST_BYTES, MOST_TEXT_BYTES) if path.suffix.lower() in TEXTS else MOST_BYTES
        return reader(read_bounded(path, limit), path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. Name a file of a motion.") from error
    except (ValueError, OverflowError, MemoryError) as error:
        reason = str(error) or "there is no memory for it"
        raise UsageError(f"{path} cannot be read as a motion: {reason}. Expected: {expected}.") from error
