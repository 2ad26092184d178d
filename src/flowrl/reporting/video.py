"""Videos: panels side by side, each with a caption in the picture, written as WebP, GIF or MP4."""

from __future__ import annotations

import io
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from flowrl.contracts.errors import MissingDependency, StorageError
from flowrl.storage.files import check_suffix, replacing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

SUFFIXES = (".webp", ".gif", ".mp4")

NARROWEST = 240  # pixels: a caption needs them, also above a smaller picture
LINE, MARGIN = 17, 5  # pixels: a line of the caption, the space around it
SIZES = (12, 11, 10, 9)  # of the letters: the largest in which a line fits
CAPTION = 2 * LINE + 2 * MARGIN
GAP = 4  # between panels
ROW = 4  # panels side by side before another row begins

BACKGROUND = (24, 26, 31)
TITLE = (160, 166, 178)
TONES = {
    "running": (236, 238, 242),
    "ended": (255, 214, 102),
    "success": (122, 217, 146),
    "failure": (247, 132, 118),
}
Tone = Literal["running", "ended", "success", "failure"]

# Lossy at a quality at which the caption stays crisp; whole pictures are rarely needed, as nobody seeks in a loop.
WEBP: dict[str, Any] = {"quality": 70, "method": 4, "kmin": 30, "kmax": 60}
PALETTE_FRAMES = 12  # pictures that the common palette of a GIF is made from
FFMPEG = ["-crf", "23", "-movflags", "+faststart"]


@dataclass(frozen=True)
class VideoPanel:
    """One picture with what is written above it."""

    picture: NDArray[Any]  # (height, width, 3) uint8
    title: str
    facts: str
    tone: Tone = "running"  # the colour of the facts


class Film(Protocol):
    """A video that is being made."""

    def add(self, frame: Image, seconds: float) -> None:
        """Append a picture that is shown for `seconds`; all have the size of the first."""
        ...

    def finish(self, path: Path) -> None:
        """Write the whole video to `path`."""
        ...

    def abandon(self) -> None:
        """Let go of everything, also after `finish`."""
        ...


def compose(panels: Sequence[VideoPanel], largest: tuple[int, int]) -> Image:
    """The panels as one picture of even width and height (MP4 asks for it), in rows of at most four.

    A picture that is larger than `largest` (width, height) is scaled down, its proportions kept.
    """
    from PIL import Image, ImageDraw

    pictures = [_fitted(panel.picture, largest) for panel in panels]
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


def _fitted(picture: NDArray[Any], largest: tuple[int, int]) -> Image:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail(largest, Image.Resampling.LANCZOS)
    return image


def _fitting(text: str, face: str, room: int) -> tuple[str, FreeTypeFont]:
    """`text` and the largest font in which it is at most `room` pixels wide, ending in … where none is."""
    for size in SIZES:
        if _font(face, size).getlength(text) <= room:
            return text, _font(face, size)
    while text and _font(face, SIZES[-1]).getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…", _font(face, SIZES[-1])


@cache
def _font(face: str, size: int) -> FreeTypeFont:
    """A font that comes with matplotlib: all its digits are equally wide, so running numbers stand still."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", f"{face}.ttf"), size)


def check(path: Path) -> None:
    """UsageError for a suffix that is not written, MissingDependency for MP4 without its package."""
    check_suffix(path, "--video", "videos", SUFFIXES)
    if path.suffix.lower() == ".mp4":
        _require_ffmpeg(path)


def _require_ffmpeg(path: Path) -> None:
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"--video {path}: MP4 needs ffmpeg. Type pip install 'flowrl-cli[video]', or choose "
            f"--video {path.with_suffix('.webp')}, which needs nothing."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[Film]:
    """A film to add pictures to; when the block ends well it stands at `path`, whole, and otherwise nothing does.

    The folder is made if need be. Raises what `check` does, and StorageError when the file cannot be written,
    before the first picture if that can be known.
    """
    check(path)
    with replacing(path, "--video") as part:
        film = Ffmpeg(part) if path.suffix.lower() == ".mp4" else Loop()
        try:
            yield film
            film.finish(part)
        finally:
            film.abandon()


class Loop:
    """WebP or GIF, by Pillow, which wants all pictures at once: until then they are kept compressed, as a TIFF."""

    def __init__(self) -> None:
        from PIL.TiffImagePlugin import AppendingTiffWriter

        self._pages = io.BytesIO()
        self._writer = AppendingTiffWriter(self._pages)
        self._seconds: list[float] = []

    def add(self, frame: Image, seconds: float) -> None:
        frame.save(self._writer, format="TIFF", compression="tiff_lzw")
        self._writer.newFrame()
        self._seconds.append(seconds)

    def finish(self, path: Path) -> None:
        from PIL import Image

        with Image.open(self._pages) as pages:
            if path.suffix.lower() == ".gif":
                first, *others = _indexed(pages)
                first.save(path, save_all=True, append_images=others, loop=0, duration=self._durations(10))
            else:
                pages.save(path, save_all=True, loop=0, duration=self._durations(1), **WEBP)

    def abandon(self) -> None:
        self._pages.close()

    def _durations(self, unit: int) -> list[int]:
        """Milliseconds per picture, in multiples of `unit`, without drifting away from the true time."""
        durations, true, shown = [], 0.0, 0
        for seconds in self._seconds:
            true += 1000 * seconds
            durations.append(max(unit, round((true - shown) / unit) * unit))
            shown += durations[-1]
        return durations


def _indexed(pages: Image) -> list[Image]:
    """The pictures in one common palette of 256 colours: what does not change then has the same colours throughout."""
    from PIL import Image, ImageSequence

    count = getattr(pages, "n_frames", 1)
    samples = Image.new("RGB", (pages.width, pages.height * min(count, PALETTE_FRAMES)))
    for place in range(min(count, PALETTE_FRAMES)):
        pages.seek(place * (count - 1) // max(1, PALETTE_FRAMES - 1) if count > PALETTE_FRAMES else place)
        samples.paste(pages, (0, place * pages.height))
    palette = samples.quantize(256, method=Image.Quantize.MEDIANCUT)
    return [
        page.quantize(palette=palette, dither=Image.Dither.NONE) for page in ImageSequence.Iterator(pages)
    ]


class Ffmpeg:
    """MP4 (H.264), piped to ffmpeg picture by picture: none is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe: Generator[None, bytes, None] | None = None
        self._rate = 0.0
        self._due = 0.0

    def add(self, frame: Image, seconds: float) -> None:
        """The first picture's time sets the frame rate; a picture shown for longer is repeated."""
        if self._pipe is None:
            self._rate = 1 / seconds
            self._pipe = self._open(frame.size)
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

    def finish(self, path: Path) -> None:
        assert path == self._path  # noqa: S101  ffmpeg has been writing there all along
        self.abandon()

    def abandon(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
