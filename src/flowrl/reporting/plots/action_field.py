"""Figures of a policy with two-dimensional actions: its action field and trajectories over a grid's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowrl.reporting.plots.style import BLUE, PURPLE, VERMILLION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mask = NDArray[np.bool_]  # (height, width), indexed [y, x]
Points = NDArray[Any]  # (..., 2): x, y in cells

GOAL, DEATH, WALL = "#8FD3B6", "#E8997A", "#8A8A8A"  # pale green, pale red, grey: arrows are readable on them
ARROW = 0.55  # length of an arrow of size 1, in distances between neighbouring cells


@dataclass(frozen=True)
class FieldLayout:
    """The cells of a grid that end an episode well, end it badly, or cannot be entered."""

    goal: Mask
    death: Mask
    wall: Mask

    @property
    def kinds(self) -> tuple[tuple[Mask, str, str], ...]:
        """The cells of each kind, with its colour and label."""
        return (self.goal, GOAL, "goal"), (self.death, DEATH, "death"), (self.wall, WALL, "wall")


@dataclass(frozen=True)
class FieldPanel:
    """One policy: sampled actions at some cells, and the paths of some episodes."""

    title: str
    cells: Points  # (cells, 2): where the actions were sampled
    actions: Points  # (cells, samples, 2): dx, dy in [-1, 1]; y grows upwards in the figure
    trajectories: Sequence[Points] = ()  # each (length, 2), the start included


@styled
def draw(layout: FieldLayout, panels: Sequence[FieldPanel]) -> Figure:
    """Draw a column per policy: its action field above, its trajectories, if any, below.

    Every sampled action is an arrow from its cell, blue where it goes up and red where it goes down: in a cell with
    both colours the policy has two modes, which the mean action would hide. A trajectory has the colour of the side
    on which it ends.
    """
    rows = 2 if any(len(panel.trajectories) for panel in panels) else 1
    figure = new_figure(width=max(5.0, 4.5 * len(panels)), height=4.5 * rows + 0.5)
    grid = figure.subplots(rows, len(panels), squeeze=False)
    for column, panel in enumerate(panels):
        _draw_layout(grid[0, column], layout)
        _draw_field(grid[0, column], panel)
        grid[0, column].set_title(panel.title)
        if rows == 2:
            _draw_layout(grid[1, column], layout)
            _draw_trajectories(grid[1, column], panel)
    _legend(figure, layout)
    return figure


def _draw_layout(axes: Axes, layout: FieldLayout) -> None:
    from matplotlib.colors import to_rgb

    height, width = layout.goal.shape
    image = np.ones((height, width, 3))
    for mask, colour, _ in reversed(layout.kinds):
        image[mask] = to_rgb(colour)
    axes.imshow(image, origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color("0.6")


def _draw_field(axes: Axes, panel: FieldPanel) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    samples = panel.actions.shape[1]
    start = np.repeat(panel.cells, samples, axis=0)  # (cells * samples, 2)
    action = panel.actions.reshape(-1, 2)
    axes.quiver(
        *start.T,
        *action.T,
        _rise(action),
        cmap=LinearSegmentedColormap.from_list("up_down", [VERMILLION, PURPLE, BLUE]),
        clim=(-1, 1),
        angles="xy",
        scale_units="xy",
        scale=1 / (ARROW * _spacing(panel.cells)),
        width=0.0035,
        headwidth=4,
        headlength=4,
        headaxislength=3.5,
        alpha=0.7,
        zorder=2,
    )


def _draw_trajectories(axes: Axes, panel: FieldPanel) -> None:
    for index, path in enumerate(panel.trajectories):
        x, y = _offset(path, index, len(panel.trajectories)).T
        rises = path[-1, 1] >= path[0, 1]
        colour = BLUE if rises else VERMILLION
        axes.plot(x, y, color=colour, alpha=0.5, linewidth=1.4, solid_joinstyle="round", zorder=2)
        axes.plot(x[-1], y[-1], "o", color=colour, markersize=3.5, zorder=3)
    if len(panel.trajectories):
        axes.plot(*panel.trajectories[0][0], "s", color="black", markersize=6, zorder=4)
        ends = np.array([path[-1, 1] - path[0, 1] for path in panel.trajectories])
        above, below = int((ends > 0).sum()), int((ends < 0).sum())
        axes.set_xlabel(f"{len(ends)} episodes: {above} end above the start, {below} below")


def _offset(path: Points, index: int, number: int) -> Points:
    """Shift a path within its cells, so that episodes over the same cells can be counted."""
    shift = 0.8 * ((index + 0.5) / number - 0.5)
    return np.asarray(path, dtype=float) + shift


def _spacing(cells: Points) -> float:
    """Return the least distance along an axis between two of the cells; 1 when all are the same."""
    gaps = np.concatenate([np.diff(np.unique(cells[:, axis])) for axis in (0, 1)])
    return float(gaps.min()) if len(gaps) else 1.0


def _rise(action: Points) -> NDArray[Any]:
    """Compute the sine of an action's angle: 1 straight up, -1 straight down, 0 for no action."""
    size = np.linalg.norm(action, axis=-1)
    return np.asarray(action[..., 1] / np.where(size > 0, size, 1))


def _legend(figure: Figure, layout: FieldLayout) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    arrows = {"up": BLUE, "sideways": PURPLE, "down": VERMILLION}
    parts: list[Line2D | Patch] = [Line2D([], [], color=arrows[label], linewidth=2, label=label) for label in arrows]
    parts += [Patch(color=colour, label=label) for mask, colour, label in layout.kinds if mask.any()]
    figure.legend(handles=parts, loc="outside lower center", ncols=len(parts))
