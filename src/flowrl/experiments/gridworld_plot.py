"""A picture of GridWorld policies: sampled actions over the grid, and episodes from the centre."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.envs import factory, gridworld
from flowrl.experiments.build import load_policy
from flowrl.experiments.evaluate import LoadedCheckpoint, open_checkpoint
from flowrl.policies.policy import Policy
from flowrl.reporting.plots import action_field, style

EPISODES = 20
SAMPLES = 12  # actions per cell
EVERY = 3  # cells from one arrow base to the next


def draw(runs: Sequence[Path], out: Path) -> None:
    """Draw the action fields and 20 episodes from the centre, a column per run, into `out`.

    Raises UsageError for a run that is not of GridWorld, or of another mode than the first.
    """
    opened = [open_checkpoint(run) for run in runs]
    modes = {mode(each) for each in opened}
    if len(modes) > 1:
        raise UsageError(
            f"plot --field: the runs are of different modes ({', '.join(sorted(modes))}). Draw a file per mode."
        )
    where = gridworld.layout(modes.pop())
    masks = action_field.FieldLayout(where.goal.T, where.death.T, where.wall.T)
    style.save(action_field.draw(masks, [panel(each, where) for each in opened]), out)


def mode(opened: LoadedCheckpoint) -> str:
    """Return the GridWorld mode of a run; raises UsageError when it is of another environment."""
    env = opened.config.env
    if env.id != gridworld.ID:
        raise UsageError(f"{opened.path}: --field draws GridWorld policies, this one is for {env.id}.")
    return str(env.options.get("mode", gridworld.MODES[0]))


def panel(opened: LoadedCheckpoint, where: gridworld.GridLayout) -> action_field.FieldPanel:
    """Return the panel of one policy, with the sampler of its run and random noise."""
    config = opened.config.model_copy(update={"noise": "random", "noise_scale": 1.0})
    policy = load_policy(opened.path, opened.content, config).policy
    free = where.starts
    cells = free[((free - gridworld.CENTRE) % EVERY == 0).all(axis=1)]
    obs = torch.from_numpy(gridworld.observe(cells)).repeat_interleave(SAMPLES, dim=0)
    actions = policy(obs).clamp(-1, 1).numpy().reshape(len(cells), SAMPLES, 2)
    return action_field.FieldPanel(title(opened), cells, actions, trajectories(policy, opened, EPISODES))


def title(opened: LoadedCheckpoint) -> str:
    """Return 'FPO, 98,304 env steps'."""
    return f"{opened.config.algorithm.upper()}, {opened.content['progress']['env_steps']:,} env steps"


def trajectories(policy: Policy, opened: LoadedCheckpoint, episodes: int) -> list[NDArray[Any]]:
    """Return the cells (steps + 1, 2) of each of `episodes` episodes from the centre."""
    centre = (gridworld.CENTRE, gridworld.CENTRE)
    options = opened.config.env.options | {"start": centre}
    env = factory.make(opened.config.env.model_copy(update={"options": options}), count=episodes)
    try:
        obs = env.reset(seed=0)
        paths = [[gridworld.cell_of(row)] for row in obs.numpy()]
        running = np.ones(episodes, dtype=bool)
        while running.any():
            step = env.step(policy(obs))
            for index in np.flatnonzero(running):
                paths[index].append(gridworld.cell_of(step.successor[index].numpy()))
            running &= ~(step.terminated | step.truncated).numpy()
            obs = step.obs
    finally:
        env.close()
    return [np.array(path) for path in paths]
