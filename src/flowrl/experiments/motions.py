"""The humanoid's motions as pictures: a sheet of poses, or a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
POSES = 10  # of each motion, on a sheet
SPAN = 4.0  # s of a motion from its beginning that a sheet shows, at most
POSE = (200, 150)  # pixels, height and width, on a sheet
PANEL = (240, 320)  # pixels, height and width, in a video
MOST_PANELS = 16  # of a video
NO_LIMIT = (10_000, 10_000)


def check_sheet(path: Path) -> None:
    """UsageError for a suffix in which no sheet is written."""
    check_suffix(path, "--sheet", "sheets", SUFFIXES)


def sheet(clips: Sequence[Motion], path: Path) -> None:
    """Draw a row of poses for every motion, evenly spaced in time, into the picture `path`.

    Raises UsageError for another suffix, MissingDependency where nothing can be drawn, and StorageError.
    """
    from PIL import Image

    check_sheet(path)
    height, most = (POSE[0] + video.CAPTION) * len(clips), TALLEST.get(path.suffix.lower())
    if most is not None and height > most:
        raise UsageError(
            f"--sheet {path}: {len(clips)} motions are {height:,} pixels high, and {path.suffix} ends at {most:,}. "
            f"Type --sheet {path.with_suffix('.png')}, or name fewer motions."
        )
    rows = []
    with drawing(POSE) as portraitist:
        for clip in clips:
            shown = min(SPAN, clip.seconds)
            frames = np.linspace(0, shown * CONTROL_RATE, POSES).round().astype(int)
            poses = np.concatenate([portraitist.picture(clip.qpos[frame]) for frame in frames], axis=1)
            facts = (
                f"{clip.seconds:.1f} s, of which {shown:.1f} s" if shown < clip.seconds else f"{shown:.1f} s"
            )
            rows.append(video.compose([VideoPanel(poses, clip.name, facts)], NO_LIMIT))
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    with replacing(path, "--sheet") as part:
        whole.save(part)


def film(
    clips: Sequence[Motion], path: Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> None:
    """Play the motions side by side into the video `path`, in real time, until the longest is over.

    A motion that loops is repeated, another one stays in its last pose. Nothing moves it: its poses are shown.
    Raises UsageError for another suffix or too many motions, MissingDependency and StorageError.
    """
    video.check(path)
    if len(clips) > MOST_PANELS:
        raise UsageError(f"{len(clips)} motions do not fit in one video: choose at most {MOST_PANELS}.")
    longest = max(clip.seconds for clip in clips)
    played = [unrolled(clip, longest) for clip in clips]
    frames = max(len(clip.qpos) for clip in played)
    with drawing(PANEL) as portraitist, video.writing(path) as reel:
        for frame in range(frames):
            progress(frame + 1, frames)
            panels = [_panel(portraitist, clip, frame) for clip in played]
            reel.add(video.compose(panels, NO_LIMIT), 1 / CONTROL_RATE)


def _panel(portraitist: PoseRenderer, clip: Motion, frame: int) -> VideoPanel:
    over = frame >= len(clip.qpos)
    pose = clip.qpos[min(frame, len(clip.qpos) - 1)]
    time = min(frame / CONTROL_RATE, clip.seconds)
    return VideoPanel(portraitist.picture(pose), clip.name, f"{time:.1f} s", "ended" if over else "running")


@contextmanager
def drawing(size: tuple[int, int]) -> Iterator[PoseRenderer]:
    """Someone who draws poses, height and width in pixels, and lets go of the graphics afterwards."""
    portraitist = PoseRenderer(*size)
    try:
        yield portraitist
    finally:
        portraitist.close()
