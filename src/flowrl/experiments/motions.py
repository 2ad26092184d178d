"""The humanoid's motions as pictures: a sheet of poses, or a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from flowrl.contracts.errors import UsageError
from flowrl.envs.humanoid.model import CONTROL_RATE
from flowrl.envs.humanoid.motions.library import unrolled
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.rendering import PoseRenderer
from flowrl.reporting import video
from flowrl.reporting.video import VideoPanel
from flowrl.storage.files import check_suffix, replacing

SUFFIXES = (".png", ".webp", ".jpg")
TALLEST = {".webp": 16_383, ".jpg": 65_500}  # pixels of a picture
POSES = 10  # per motion on a sheet
SPAN = 4.0  # s from the beginning of a motion: the most that a sheet shows
POSE = (200, 150)  # pixels, height and width, on a sheet
PANEL = (240, 320)  # pixels, height and width, in a video
MOST_PANELS = 16  # of a video
NO_LIMIT = (10_000, 10_000)


def check_sheet(path: Path) -> None:
    """Raise UsageError for a suffix in which no sheet is written."""
    check_suffix(path, "--sheet", "sheets", SUFFIXES)


def sheet(motions: Sequence[Motion], path: Path) -> None:
    """Draw a row of poses for every motion, evenly spaced in time, into the picture `path`.

    Raises UsageError for another suffix, MissingDependency where nothing can be drawn, and StorageError.
    """
    from PIL import Image

    check_sheet(path)
    height, most = (POSE[0] + video.CAPTION) * len(motions), TALLEST.get(path.suffix.lower())
    if most is not None and height > most:
        raise UsageError(
            f"--sheet {path}: {len(motions)} motions are {height:,} pixels high, and {path.suffix} ends at {most:,}. "
            f"Type --sheet {path.with_suffix('.png')}, or name fewer motions."
        )
    rows = []
    with closing(PoseRenderer(*POSE)) as renderer:
        for motion in motions:
            shown = min(SPAN, motion.seconds)
            frames = np.linspace(0, shown * CONTROL_RATE, POSES).round().astype(int)
            poses = np.concatenate([renderer.picture(motion.qpos[frame]) for frame in frames], axis=1)
            facts = f"{motion.seconds:.1f} s, of which {shown:.1f} s" if shown < motion.seconds else f"{shown:.1f} s"
            rows.append(np.asarray(video.compose([VideoPanel(poses, motion.name, facts)], NO_LIMIT)))
    with replacing(path, "--sheet") as part:
        Image.fromarray(np.concatenate(rows)).save(part)


def film(motions: Sequence[Motion], path: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Play the motions side by side into the video `path`, in real time, until the longest is over.

    A motion that loops is repeated, another one stays in its last pose. Poses are shown without physics.
    Raises UsageError for another suffix or too many motions, MissingDependency and StorageError.
    """
    video.check(path)
    if len(motions) > MOST_PANELS:
        raise UsageError(f"{len(motions)} motions do not fit in one video: choose at most {MOST_PANELS}.")
    longest = max(motion.seconds for motion in motions)
    played = [unrolled(motion, longest) for motion in motions]
    frames = max(len(motion.qpos) for motion in played)
    with closing(PoseRenderer(*PANEL)) as renderer, video.writing(path) as writer:
        for frame in range(frames):
            progress(frame + 1, frames)
            panels = [_panel(renderer, motion, frame) for motion in played]
            writer.add(video.compose(panels, NO_LIMIT), 1 / CONTROL_RATE)


def _panel(renderer: PoseRenderer, motion: Motion, frame: int) -> VideoPanel:
    over = frame >= len(motion.qpos)
    pose = motion.qpos[min(frame, len(motion.qpos) - 1)]
    time = min(frame / CONTROL_RATE, motion.seconds)
    return VideoPanel(renderer.picture(pose), motion.name, f"{time:.1f} s", "ended" if over else "running")
