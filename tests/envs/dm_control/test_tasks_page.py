"""The table of docs/tasks.md against the tasks themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowrl.envs.dm_control.tasks import TASKS, find_task
from flowrl.envs.simulation.task_runner import TaskRunner

PAGE = Path(__file__).parents[3] / "docs" / "tasks.md"
ROWS = {
    cells[0]: cells
    for line in PAGE.read_text("utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 7
}


@pytest.mark.parametrize("task", TASKS)
def test_the_page_says_what_the_task_is(task: str) -> None:
    _, observation, size, actions, control_step, *physics = ROWS[task]
    for profile, described in zip(("dmc", "playground"), physics, strict=True):
        kind, constants = find_task(task, profile)
        arena = TaskRunner(kind, constants, 1)
        assert (
            described == f"{constants.timestep:g} \N{MULTIPLICATION SIGN} {constants.substeps}, {constants.integrator}"
        )
        assert control_step == f"{arena.task.control_timestep:g} s"
        assert (int(size), int(actions)) == (arena.observation_size, arena.action_size)
        if profile == "dmc":
            parts = arena.task.observation_parts
            assert observation == ", ".join(f"{name} {width}" for name, width in parts.items())
