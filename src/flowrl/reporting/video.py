"""Write videos of panels side by side, each with a caption, as WebP, GIF or MP4."""

from __future__ import annotations

import io
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from flowrl.contracts.errors import MissingDependency, StorageError
from flowrl.contracts.installing import reinstall
from flowrl.storage.files import check_suffix, replacing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

SUFFIXES = (".webp", ".gif", ".mp4")

NARROWEST = 240  # pixels of a panel's width, which a caption needs
LINE, MARGIN = 17, 5  # pixels: the height of a caption line, the space around the caption
SIZES = (12, 11, 10, 9)  # of the letters; the largest that fits is used
CAPTION = 2 * LINE + 2 * MARGIN
GAP = 4  # between panels
ROW = 4  # panels side by side before another row begins

BACKGROUND = (24, 26, 31)
TITLE = (160, 166, 178)
TONES = {"running": (236, 238, 242), "ended": (255, 214, 102), "success": (122, 217, 146), "failure": (247, 132, 118)}
Tone = Literal["running", "ended", "success", "failure"]

# Lossy, at a quality at which the caption stays sharp, and with few key frames: a loop is not seeked in.
WEBP: dict[str, Any] = {"quality": 70, "method": 4, "kmin": 30, "kmax": 60}
PALETTE_FRAMES = 12  # frames that the common palette of a GIF is computed from
FFMPEG = ["-crf", "23", "-movflags", "+faststart"]


@dataclass(frozen=True)
class VideoPanel:
    """A picture and its caption."""

    picture: NDArray[Any]  # (height, width, 3) uint8
    title: str
    facts: str
    tone: Tone = "running"  # the colour of the facts


def compose(panels: Sequence[VideoPanel], largest: tuple[int, int]) -> Image:
    """Arrange panels in rows of at most four, as one image of even width and height, which MP4 requires.

    Pictures larger than `largest` (width, height) are scaled down in proportion.
    """
    from PIL import Image, ImageDraw

    pictures = [Image.fromarray(panel.picture) for panel in panels]
    for picture in pictures:
        picture.thumbnail(largest, Image.Resampling.LANCZOS)
    width = max(NARROWEST, *(picture.width for picture in pictures))
    height = CAPTION + max(picture.height for picture in pictures)
    rows = math.ceil(len(panels) / ROW)
    columns = math.ceil(len(panels) / rows)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    canvas = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
        left, top = index % columns * (width + GAP), index // columns * (height + GAP)
        lines = (panel.title, "DejaVuSans", TITLE), (panel.facts, "DejaVuSans-Bold", TONES[panel.tone])
        for number, (text, face, colour) in enumerate(lines):
            text, font = _fitting(text, face, width - 2 * MARGIN)
            middle = top + MARGIN + number * LINE + LINE // 2
            draw.text((left + MARGIN, middle), text, fill=colour, font=font, anchor="lm")
        canvas.paste(picture, (left + (width - picture.width) // 2, top + CAPTION))
    return canvas


def fitted(frame: Image, size: tuple[int, int]) -> Image:
    """Return `frame` with `size` (width, height): scaled down in proportion if it is larger, then padded."""
    if frame.size == size:
        return frame
    from PIL import Image

    frame = frame.copy()
    frame.thumbnail(size, Image.Resampling.LANCZOS)
    canvas = Image.new(frame.mode, size, BACKGROUND)
    canvas.paste(frame, (0, 0))
    return canvas


def _fitting(text: str, face: str, room: int) -> tuple[str, FreeTypeFont]:
    """Choose the largest font in which `text` is at most `room` pixels wide; shorten it with … if none is."""
    for size in SIZES:
        if _font(face, size).getlength(text) <= room:
            return text, _font(face, size)
    while text and _font(face, SIZES[-1]).getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…", _font(face, SIZES[-1])


@cache
def _font(face: str, size: int) -> FreeTypeFont:
    """Load a font that comes with matplotlib; its digits are equally wide, so that counting numbers do not move."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", f"{face}.ttf"), size)


def check(path: Path) -> None:
    """Raise UsageError for an unsupported suffix, MissingDependency for MP4 without its package."""
    check_suffix(path, "--video", "videos", SUFFIXES)
    if path.suffix.lower() != ".mp4":
        return
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"--video {path}: MP4 needs ffmpeg. Type {reinstall('video')}, or choose "
            f"--video {path.with_suffix('.webp')}, which needs nothing."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[PillowVideo | FfmpegVideo]:
    """Open a video to add frames to; it is written to `path` when the block ends without an error, else not at all.

    The folder is created if need be. Raises the errors of `check`, and StorageError when the file cannot be written,
    before the first frame if possible.
    """
    check(path)
    with replacing(path, "--video") as part:
        video = FfmpegVideo(part) if path.suffix.lower() == ".mp4" else PillowVideo(part)
        try:
            yield video
            video.finish()
        finally:
            video.close()


class PillowVideo:
    """WebP or GIF by Pillow, which needs all frames at once: until then they are kept compressed, as a TIFF."""

    def __init__(self, path: Path) -> None:
        from PIL.TiffImagePlugin import AppendingTiffWriter

        self._path = path
        self._pages = io.BytesIO()
        self._writer = AppendingTiffWriter(self._pages)
        self._seconds: list[float] = []
        self._size: tuple[int, int] | None = None

    def add(self, frame: Image, seconds: float) -> None:
        """Append a frame that is shown for `seconds`; those of another size than the first are fitted into it."""
        self._size = self._size or frame.size
        frame = fitted(frame, self._size)
        frame.save(self._writer, format="TIFF", compression="tiff_lzw")
        self._writer.newFrame()
        self._seconds.append(seconds)

    def finish(self) -> None:
        """Write the video."""
        from PIL import Image

        with Image.open(self._pages) as pages:
            if self._path.suffix.lower() == ".gif":
                first, *others = _indexed(pages)
                first.save(self._path, save_all=True, append_images=others, loop=0, duration=self._durations(10))
            else:
                pages.save(self._path, save_all=True, loop=0, duration=self._durations(1), **WEBP)

    def close(self) -> None:
        """Release the frames."""
        self._pages.close()

    def _durations(self, unit: int) -> list[int]:
        """Compute milliseconds per frame in multiples of `unit`, such that rounding errors do not add up."""
        durations, true, shown = [], 0.0, 0
        for seconds in self._seconds:
            true += 1000 * seconds
            durations.append(max(unit, round((true - shown) / unit) * unit))
            shown += durations[-1]
        return durations


def _indexed(pages: Image) -> list[Image]:
    """Convert frames to one common palette of 256 colours, so that still parts keep their colours."""
    from PIL import Image, ImageSequence

    count = getattr(pages, "n_frames", 1)
    sampled = min(count, PALETTE_FRAMES)
    samples = Image.new("RGB", (pages.width, pages.height * sampled))
    for place in range(sampled):
        pages.seek(place * (count - 1) // max(1, sampled - 1))  # evenly over the video
        samples.paste(pages, (0, place * pages.height))
    palette = samples.quantize(256, method=Image.Quantize.MEDIANCUT)
    return [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in ImageSequence.Iterator(pages)]


class FfmpegVideo:
    """MP4 (H.264), piped to ffmpeg frame by frame; no frame is kept in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe: Generator[None, bytes, None] | None = None
        self._rate = 0.0
        self._size = (0, 0)
        self._due = 0.0

    def add(self, frame: Image, seconds: float) -> None:
        """Append a frame; the first one's time sets the frame rate, and a frame shown for longer is repeated."""
        if self._pipe is None:
            self._rate = 1 / seconds
            self._size = frame.size
            self._pipe = self._open(frame.size)
        frame = fitted(frame, self._size)
        self._due += seconds * self._rate
        data = frame.tobytes()
        try:
            while self._due >= 0.5:
                self._pipe.send(data)
                self._due -= 1
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: ffmpeg stopped. Free some space.") from error

    def _open(self, size: tuple[int, int]) -> Generator[None, bytes, None]:
        import imageio_ffmpeg

        pipe: Generator[None, bytes, None] = imageio_ffmpeg.write_frames(
            self._path, size, fps=self._rate, quality=None, macro_block_size=2, output_params=FFMPEG,
            ffmpeg_log_level="error",
        )  # fmt: skip
        pipe.send(None)  # type: ignore[arg-type]  # starts it
        return pipe

    def finish(self) -> None:
        """Wait until ffmpeg has written the video."""
        self.close()

    def close(self) -> None:
        """End ffmpeg; allowed after `finish` too."""
        if self._pipe is not None:
            self._pipe.close()
