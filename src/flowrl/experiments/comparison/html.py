"""A comparison as one HTML file that needs nothing beside it: text, tables, figures and videos."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from flowrl.contracts.errors import FlowrlError
from flowrl.experiments.comparison.load import Group, LoadedRun, LoadedSuites
from flowrl.experiments.comparison.results import Comparison
from flowrl.experiments.comparison.tables import ResultTable, introduction, sections, title

SECONDS, FPS = 10, 15.0  # of a video, at most
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
.videos { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figcaption { font-size: 14px; color: #555; }
"""


@dataclass(frozen=True)
class Picture:
    """A figure or a video: its content, its type such as image/png, and the text below it."""

    content: bytes
    kind: str
    caption: str


def page(comparison: Comparison, figures: Sequence[Picture], videos: Sequence[Picture]) -> str:
    """Return the document; every text is escaped, since names come from files."""
    parts = [f"<h1>{escape(title(comparison))}</h1>", f"<p>{escape(introduction(comparison))}</p>"]
    parts += [_picture(figure) for figure in figures]
    for section in sections(comparison, compact=False):
        parts += [f"<h2>{escape(section.heading)}</h2>", *map(_block, section.blocks)]
    if videos:
        parts += ["<h2>Videos</h2>", '<div class="videos">', *map(_picture, videos), "</div>"]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8">\n<title>{escape(title(comparison))}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _block(block: str | list[str] | ResultTable) -> str:
    if isinstance(block, ResultTable):
        return _table(block)
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in block) + "\n</ul>"


def _table(table: ResultTable) -> str:
    numbers = len(table.header) - table.numbers

    def row(cells: Sequence[str], tag: str) -> str:
        marks = [' class="number"' if place >= numbers else "" for place in range(len(cells))]
        return "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    rows = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    return f"<table>\n<thead><tr>{row(table.header, 'th')}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.content).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:{picture.kind};base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


# ----------------------------------------------------------------------------------------------- videos


def videos(
    suites: LoadedSuites, mode: str, report: Callable[[str], None], progress: Callable[[str, int, int], None]
) -> Iterator[Picture]:
    """Yield a video of the best and of the median run of each task, by their returns under the noise `mode`.

    What cannot be played, for example because its environment draws no pictures, is reported and left out.
    """
    from flowrl.envs.rendering import Size
    from flowrl.experiments import play
    from flowrl.experiments.evaluate import EvalRequest

    for place, task in enumerate(suites.tasks):
        progress(f"playing {task}", place, len(suites.tasks))
        for what, name, run, score in chosen(suites.on(task), mode):
            noise, scale = ("random", mode.partition(" ")[0]) if " " in mode else (mode, None)
            request = EvalRequest(noise=noise, noise_scale=scale, episodes=1, seed=1)
            try:
                with TemporaryDirectory() as folder:
                    file = Path(folder) / "video.webp"
                    play.play(
                        run.folder, request, path=file, size=Size(240, 180), fps=FPS, max_steps=round(SECONDS * 30)
                    )
                    content = file.read_bytes()
            except FlowrlError as error:
                report(f"no video of {run.folder}: {error}")
                continue
            yield Picture(content, "image/webp", f"{task}, {what} run: {name} seed {run.seed}, mean return {score:.4g}")


def chosen(groups: dict[str, Group], mode: str) -> list[tuple[str, str, LoadedRun, float]]:
    """Return ('best' or 'median', algorithm, run, its return) of all runs on a task."""
    runs = sorted(
        (
            (float(score), name, run)
            for name, group in groups.items()
            for run, score in zip(group.runs, group.returns(mode), strict=True)
        ),
        key=lambda each: each[0],
    )
    places = dict.fromkeys([len(runs) - 1, (len(runs) - 1) // 2])
    found = []
    for place in places:
        score, name, run = runs[place]
        found.append(("best" if place == len(runs) - 1 else "median", name, run, score))
    return found
