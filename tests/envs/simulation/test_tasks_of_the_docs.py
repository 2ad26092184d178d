"""The code of docs/mujoco_tasks.md runs as printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl.envs import Task
from flowrl.envs.simulation.task_env import vector_env
from flowrl.envs.simulation.task_options import DECLARED, known

PAGE = Path(__file__).parents[3] / "docs" / "mujoco_tasks.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def classes() -> dict[str, Any]:
    """What the page defines, block after block, as in one file."""
    names: dict[str, Any] = {"__name__": "reach"}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  our own page
    return {name: value for name, value in names.items() if isinstance(value, type) and value is not Task}


def test_the_first_robot_has_at_most_40_lines() -> None:
    assert len([line for line in blocks()[0].splitlines() if line.strip()]) <= 40


@pytest.mark.parametrize("name", ["Reach", "Payload", "Robust", "Measured"])
def test_a_class_of_the_page_runs(name: str) -> None:
    env = vector_env(classes()[name], 16, 1)
    obs = env.reset_tensors(0)
    for _ in range(160):
        step = env.step_tensors(torch.rand(16, 2) * 2 - 1)
    assert obs.shape == step.obs.shape and 0 < step.reward.min() < step.reward.max() <= 1
    assert env.measures == (("distance_m",) if name == "Measured" else ())


def test_the_arm_reaches_by_a_simple_controller() -> None:
    """The transposed Jacobian pulls the tip to the target: what is observed and rewarded is what it says."""
    env = vector_env(classes()["Reach"], 64, 1)
    env.reset_tensors(0)
    task = env.runner.task.user  # type: ignore[attr-defined]
    reward = []
    for _ in range(149):
        way, angles = task.target - task.tip, task.qpos.cumsum(1)
        elbow = 0.2 * torch.stack((angles[:, 0].cos(), angles[:, 0].sin()), 1)
        levers = torch.stack((task.tip, task.tip - elbow), 1)  # (count, joint, x and y)
        torque = way[:, None, 1] * levers[:, :, 0] - way[:, None, 0] * levers[:, :, 1]
        reward.append(env.step_tensors((40 * torque - 0.1 * task.qvel).clamp(-1, 1).float()).reward)
    assert torch.stack(reward[-10:]).mean() > 0.7 > 0.4 > reward[0].mean()


def test_the_page_lists_every_declaration_and_every_method() -> None:
    text = PAGE.read_text("utf-8")
    public = {name for name in vars(Task) if not name.startswith("_")}
    public |= {*known(Task), *DECLARED}
    assert [name for name in public if not re.search(rf"`{name}\b", text)] == []
