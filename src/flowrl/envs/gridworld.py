"""GridWorld: 25 x 25 cells, five layouts, one continuous 2-D action (the toy problem of arXiv 2507.21053).

A cell is (x, y) with x, y in 0..24 and the centre at (12, 12); every mask is indexed [x, y]. The observation
is (cell - 12) / 12 in [-1, 1]². An action in [-1, 1]² moves by its rounded value, so a coordinate moves when
its absolute value exceeds one half; a wall stops the move and the border clips it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.envs.arguments import at_least_one, one_of
from flowrl.envs.family import Facts, Family

ID = "flowrl/GridWorld-v0"
SIZE = 25
CENTRE = 12
MAX_STEPS = 100
GOAL_REWARD = 20.0
DEATH_REWARD = -10.0

Cells: TypeAlias = NDArray[np.int64]  # (..., 2): x, y
Mask: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float32]
Block = tuple[int, int, int, int]  # first x, last x, first y, last y

# mode -> kind of cell -> blocks of such cells
BLOCKS: dict[str, dict[str, list[Block]]] = {
    "two_walls": {"goal": [(0, 24, 0, 1), (0, 24, 23, 24)]},
    "three_goals": {"death": [(11, 13, 11, 13)], "goal": [(11, 13, 17, 19), (6, 8, 6, 8), (16, 18, 6, 8)]},
    "tree_in_the_middle": {"death": [(13, 17, 10, 14)], "goal": [(23, 24, 10, 14)]},
    "two_slits": {"wall": [(15, 15, 0, 3), (15, 15, 8, 16), (15, 15, 21, 24)], "goal": [(24, 24, 0, 24)]},
    "cshape": {"wall": [(7, 17, 7, 7), (7, 17, 17, 17), (17, 17, 7, 17)], "goal": [(10, 14, 10, 14)]},
}
MODES = tuple(BLOCKS)


@dataclass(frozen=True)
class GridLayout:
    """The goal, death, wall and start cells of a mode."""

    mode: str
    goal: Mask  # (25, 25), [x, y]
    death: Mask  # (25, 25)
    wall: Mask  # (25, 25)
    reward: Floats  # (25, 25): of a step that ends there: +20 on a goal, -10 on death, else 0
    starts: Cells  # (cells, 2): every cell that is none of the three


def layout(mode: str) -> GridLayout:
    """Return the layout of `mode`; raise UsageError for a name that is none of `MODES`."""
    one_of(MODES, mode, "GridWorld has no mode")
    masks = {kind: np.zeros((SIZE, SIZE), dtype=np.bool_) for kind in ("goal", "death", "wall")}
    for kind, blocks in BLOCKS[mode].items():
        for first_x, last_x, first_y, last_y in blocks:
            masks[kind][first_x : last_x + 1, first_y : last_y + 1] = True
    taken = masks["goal"] | masks["death"] | masks["wall"]
    reward = np.where(masks["goal"], GOAL_REWARD, np.where(masks["death"], DEATH_REWARD, 0)).astype(np.float32)
    for array in (*masks.values(), reward):
        array.setflags(write=False)
    return GridLayout(mode, **masks, reward=reward, starts=np.argwhere(~taken))


def observe(cells: Cells) -> Floats:
    """Return the observation (..., 2) in [-1, 1] of `cells` (..., 2): (cell - 12) / 12."""
    return (cells.astype(np.float32) - np.float32(CENTRE)) / np.float32(CENTRE)


def cell_of(observation: Floats) -> Cells:
    """Return the cells (..., 2) whose observation is `observation` (..., 2): the inverse of `observe`."""
    return np.rint(observation * CENTRE + CENTRE).astype(np.int64)


def move(cells: Cells, actions: NDArray[Any], wall: Mask) -> Cells:
    """Return the cells (..., 2) that `actions` (..., 2) lead to from `cells` (..., 2).

    step = round(clip(action, -1, 1)), with 0.5 rounded to 0; the border clips the step, a wall undoes it.
    Raises ValueError for an action that is not finite.
    """
    if not np.isfinite(actions).all():
        raise ValueError(f"an action is not finite: {actions}")
    steps = np.rint(np.clip(actions, -1, 1)).astype(np.int64)
    ahead = np.clip(cells + steps, 0, SIZE - 1)
    blocked = wall[ahead[..., 0], ahead[..., 1]]
    return np.where(blocked[..., None], cells, ahead)


def start_cell(start: Sequence[int], where: GridLayout) -> Cells:
    """Return `start` as a cell (2,); raise UsageError unless it is a free cell of the grid."""
    try:
        pair = [int(value) for value in start]
        integral = all(value == number for value, number in zip(start, pair, strict=True))
    except (TypeError, ValueError):
        pair, integral = [], False
    if len(pair) != 2 or not integral or not all(0 <= value < SIZE for value in pair):
        raise UsageError(f"GridWorld: start must be two whole numbers x, y in 0..{SIZE - 1}, not {start!r}.")
    x, y = pair
    for kind in ("goal", "death", "wall"):
        if getattr(where, kind)[x, y]:
            raise UsageError(
                f"GridWorld: start ({x}, {y}) is a {kind} cell in mode {where.mode!r}; choose a free cell."
            )
    return np.array(pair, dtype=np.int64)


def picture(where: GridLayout, cell: Cells, pixels: int = 16) -> NDArray[np.uint8]:
    """Draw the grid with the agent in `cell` (2,): (25·pixels, 25·pixels, 3); x to the right, y upwards."""
    colours = np.full((SIZE, SIZE, 3), 245, dtype=np.uint8)
    colours[where.goal] = (86, 180, 120)
    colours[where.death] = (214, 92, 82)
    colours[where.wall] = (70, 70, 78)
    colours[cell[0], cell[1]] = (46, 104, 196)
    image = colours.transpose(1, 0, 2)[::-1].repeat(pixels, axis=0).repeat(pixels, axis=1)
    image[::pixels] = 225
    image[:, ::pixels] = 225
    return image


def box(low: float, high: float) -> spaces.Box:
    """Return the two-dimensional space of observations or actions."""
    return spaces.Box(low, high, (2,), np.float32)


class GridWorldEnv(gymnasium.Env[Any, Any]):
    """One GridWorld.

    `mode` is one of `MODES`; an episode is truncated after `max_steps`; `start` = (x, y) fixes the start of
    every episode, otherwise it is uniform over the free cells. `reset(options={"start": (x, y)})` fixes one
    start. A goal reached on the last step counts as termination, not as truncation.
    `info["is_success"]` is whether the agent is on a goal.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self,
        mode: str = "two_walls",
        max_steps: int = MAX_STEPS,
        start: Sequence[int] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.layout = layout(mode)
        self.max_steps = at_least_one("GridWorld: max_steps", max_steps)
        self.start = None if start is None else start_cell(start, self.layout)
        self.render_mode = render_mode
        self.observation_space = box(-1, 1)
        self.action_space = box(-1, 1)
        self.cell: Cells = np.array([CENTRE, CENTRE])
        self.elapsed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed)
        if options and "start" in options:
            self.cell = start_cell(options["start"], self.layout)
        elif self.start is not None:
            self.cell = self.start
        else:
            self.cell = self.layout.starts[self.np_random.integers(len(self.layout.starts))]
        self.elapsed = 0
        return observe(self.cell), {}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        self.cell = move(self.cell, np.asarray(action), self.layout.wall)
        self.elapsed += 1
        reward = float(self.layout.reward[self.cell[0], self.cell[1]])
        terminated = reward != 0
        truncated = not terminated and self.elapsed >= self.max_steps
        return observe(self.cell), reward, terminated, truncated, {"is_success": reward > 0}

    def render(self) -> NDArray[np.uint8] | None:
        return picture(self.layout, self.cell) if self.render_mode == "rgb_array" else None


class GridWorldVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """`num_envs` GridWorlds stepped together, with SAME_STEP autoreset; options as in `GridWorldEnv`.

    A finished environment is reset in the step that finished it: its row of the observation is the new
    start, `info["final_obs"]` holds the last observation of the old episode (None for the others) and
    `info["final_info"]["is_success"]` whether it ended on a goal. One random generator serves all rows.
    """

    metadata: dict[str, Any] = GridWorldEnv.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        single = GridWorldEnv(**options)
        self.num_envs = num_envs
        self.layout, self.max_steps, self.start = single.layout, single.max_steps, single.start
        self.render_mode = single.render_mode
        self.single_observation_space, self.single_action_space = box(-1, 1), box(-1, 1)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.cells: Cells = np.full((num_envs, 2), CENTRE)  # (envs, 2)
        self.elapsed: NDArray[np.int64] = np.zeros(num_envs, dtype=np.int64)  # (envs,)

    def _starts(self, count: int) -> Cells:
        if self.start is not None:
            return np.tile(self.start, (count, 1))
        return self.layout.starts[self.np_random.integers(len(self.layout.starts), size=count)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed)  # type: ignore[arg-type]
        if options and "start" in options:
            self.cells = np.tile(start_cell(options["start"], self.layout), (self.num_envs, 1))
        else:
            self.cells = self._starts(self.num_envs)
        self.elapsed = np.zeros(self.num_envs, dtype=np.int64)
        return observe(self.cells), {}

    def step(self, actions: Floats) -> tuple[Floats, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        self.cells = move(self.cells, np.asarray(actions).reshape(self.num_envs, 2), self.layout.wall)
        self.elapsed += 1
        reward = self.layout.reward[self.cells[:, 0], self.cells[:, 1]]
        terminated = reward != 0
        truncated = ~terminated & (self.elapsed >= self.max_steps)
        done = terminated | truncated
        finished = np.flatnonzero(done)
        infos = self._infos(reward > 0, done, finished)
        if finished.size:
            self.cells[finished] = self._starts(finished.size)
            self.elapsed[finished] = 0
        return observe(self.cells), reward.astype(np.float64), terminated, truncated, infos

    def _infos(self, success: Mask, done: Mask, finished: NDArray[np.int64]) -> dict[str, Any]:
        """Return the info dictionary that Gymnasium's SyncVectorEnv returns for the single environment."""
        infos: dict[str, Any] = {}
        if finished.size:
            final_obs = np.full(self.num_envs, None, dtype=object)
            final_obs[finished] = np.fromiter(observe(self.cells[finished]), dtype=object, count=finished.size)
            infos |= {"final_obs": final_obs, "_final_obs": done.copy()}
            infos |= {"final_info": {"is_success": success & done, "_is_success": done.copy()}}
            if (pictures := self.render()) is not None:  # of the end: the restart is still to come
                infos["final_info"] |= {"render": np.stack(pictures), "_render": done.copy()}
            infos |= {"_final_info": done.copy()}
        if finished.size < self.num_envs:
            infos |= {"is_success": success & ~done, "_is_success": ~done}
        return infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        if self.render_mode != "rgb_array":
            return None
        return tuple(picture(self.layout, cell) for cell in self.cells)

    def state(self) -> dict[str, Any]:
        """Return everything the next steps depend on: cells, elapsed steps and the random generator."""
        return {"cells": self.cells.copy(), "elapsed": self.elapsed.copy(), "random": copy.deepcopy(self.np_random)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of an environment with the same options and `num_envs`."""
        self.cells = np.array(state["cells"], dtype=np.int64)
        self.elapsed = np.array(state["elapsed"])
        self._np_random = copy.deepcopy(state["random"])


def facts(id: str) -> Facts:
    """Return rewards, episode limit and the number of cells of each kind in every mode."""
    modes = {
        where.mode: {
            **{kind: int(getattr(where, kind).sum()) for kind in ("goal", "death", "wall")},
            "start": len(where.starts),
        }
        for where in map(layout, MODES)
    }
    lines = [("reward", f"goal {GOAL_REWARD:+g}, death {DEATH_REWARD:+g}, else 0")]
    for mode, cells in modes.items():
        counts = ", ".join(f"{count} {kind}" for kind, count in cells.items() if count)
        lines.append(("mode", f"{mode}: {counts} cells"))
    rewards = {"goal": GOAL_REWARD, "death": DEATH_REWARD, "else": 0.0}
    return Facts({"episode_limit": MAX_STEPS, "rewards": rewards, "modes": modes}, lines)


FAMILY = Family(
    ids={ID: {}},
    env="flowrl.envs.gridworld:GridWorldEnv",
    vector_env="flowrl.envs.gridworld:GridWorldVectorEnv",
    facts=facts,
)
