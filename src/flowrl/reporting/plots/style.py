"""The style of all figures, and saving them: matplotlib's object API without pyplot's global state."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from flowrl.storage.files import check_suffix, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

# Okabe and Ito's palette: distinguishable with every common colour blindness (jfly.uni-koeln.de/color).
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#9A9A9A"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "text.parse_math": False,  # names come from files, and a $ in one is no formula
    "svg.hashsalt": "flowrl",  # the same data give the same file
    "savefig.dpi": 160,  # 9 inches are 1440 pixels: sharp at the width of a README
}
SUFFIXES = (".png", ".svg", ".pdf")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Make a drawing function use flowrl's style without changing the caller's matplotlib settings."""

    @wraps(draw)
    def draw_styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of `width` by `height` inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colours(names: Iterable[str]) -> dict[str, str]:
    """Give each name a colour; after the last colour they repeat."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def legend(figure: Figure, colour_of: Mapping[str, str], columns: int, title: str | None = None) -> None:
    """Put a legend with a line of its colour for each label above the panels."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2.5) for colour in colour_of.values()]
    figure.legend(lines, list(colour_of), loc="outside upper center", ncols=columns, title=title)


def caption(figure: Figure, text: str) -> None:
    """Put `text` below the panels in small letters, in as many lines as the width of the figure asks for."""
    label = figure.supxlabel(text, fontsize=8, color="0.4")
    room = 0.96 * figure.bbox.width
    letters = len(text)
    while (width := label.get_window_extent().width) > room and letters > 20:
        letters = min(letters - 1, int(letters * room / width))
        label.set_text(textwrap.fill(text, letters))


def check(path: Path) -> None:
    """Raise UsageError unless figures can be written in the format that the suffix of `path` asks for."""
    check_suffix(path, "--out", "figures", SUFFIXES)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, SVG or PDF, by the suffix of `path`; its folder is created if need be.

    Raises UsageError for another suffix and StorageError when the file cannot be written.
    """
    check(path)
    import matplotlib

    dated = {".png": None, ".svg": "Date", ".pdf": "CreationDate"}[path.suffix.lower()]
    with replacing(path) as part, matplotlib.rc_context(STYLE):
        figure.savefig(part, metadata={dated: None} if dated else None)
