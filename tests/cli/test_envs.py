"""`flowrl envs`: what it lists, how it describes one, and that listing is quick."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from flowrl.cli.envs import envs
from flowrl.contracts.errors import UsageError
from flowrl.envs.descriptions import bounds
from flowrl.envs.dm_control.tasks import TASKS

app = typer.Typer()
app.command()(envs)


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list_has_ours_first_and_only_what_can_be_trained_on() -> None:
    rows = json.loads(printed("--json"))
    ids = [row["id"] for row in rows]
    assert rows[0]["origin"] == "flowrl"
    assert {"flowrl/GridWorld-v0", "Pendulum-v1", "MountainCarContinuous-v0", "Hopper-v5", "Humanoid-v5"} <= set(ids)
    assert not {"CartPole-v1", "Hopper-v4", "Acrobot-v1", "Taxi-v4", "phys2d/Pendulum-v0"} & set(ids)
    assert len(ids) == len(set(ids))
    origins = [row["origin"] for row in rows]
    assert sorted(set(origins), key=origins.index) == list(dict.fromkeys(origins))  # in groups
    assert {row["recipe"] for row in rows if row["id"] == "flowrl/GridWorld-v0"} == {"gridworld.yaml"}
    text = printed()
    assert all(id in text for id in ids)


def test_listing_constructs_nothing_and_imports_neither_torch_nor_mujoco() -> None:
    code = (
        "import sys; from flowrl.envs.descriptions import catalogue; catalogue(); "
        "print({'torch', 'mujoco'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_control_task_is_described_in_words(task: str) -> None:
    """What it shows adds up to the observation, and start, observation and reward are each described."""
    found = json.loads(printed(f"flowrl/{task}-v0", "--json"))
    assert sum(found["parts"].values()) == found["observation"]["shape"][0]
    assert set(found["about"]) == {"start", "observation", "reward"}
    assert all(len(words) > 20 for words in found["about"].values())
    assert found["options"] == {"profile": ["dmc", "playground"]}


def test_a_description() -> None:
    found = json.loads(printed("Pendulum-v1", "--json"))
    assert found["observation"] == {"shape": [3], "dtype": "float32", "low": [-1, -1, -8], "high": [1, 1, 8]}
    assert found["action"] == {"shape": [1], "dtype": "float32", "low": [-2], "high": [2]}
    assert (found["episode_limit"], found["exact_resume"]) == (200, True)
    assert found["train"] == "flowrl train pendulum.yaml"
    text = printed("Pendulum-v1")
    assert "[-1, 1], [-1, 1], [-8, 8]" in text and "200 steps" in text and "bit for bit" in text


def test_gridworld_lists_its_modes() -> None:
    found = json.loads(printed("flowrl/GridWorld-v0", "--json"))
    assert found["modes"]["two_slits"] == {"goal": 25, "death": 0, "wall": 17, "start": 583}
    assert found["rewards"] == {"goal": 20, "death": -10, "else": 0}
    assert found["episode_limit"] == 100
    assert "cshape: 25 goal, 31 wall, 569 start cells" in printed("flowrl/GridWorld-v0")


def test_other_mujoco_tasks_are_trained_with_a_mujoco_recipe() -> None:
    found = json.loads(printed("Swimmer-v5", "--json"))
    assert found["train"] == "flowrl train halfcheetah.yaml --set env.id=Swimmer-v5"


@pytest.mark.parametrize(
    ("id", "native", "said"),
    [
        ("HalfCheetah-v5", True, "natively, all together"),
        ("flowrl/GridWorld-v0", True, "natively, all together"),
        ("Pendulum-v1", False, "by Gymnasium, one by one"),
    ],
)
def test_who_steps_it_is_printed(id: str, native: bool, said: str) -> None:
    assert json.loads(printed(id, "--json"))["native"] is native
    assert f"stepped      {said}\n" in printed(id)


def test_a_wrong_id_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'Pendulum-v1'"):
        printed("pendulum-v1")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ([-1, -1], [1, 1], "[-1, 1]"),
        ([float("-inf")] * 9, [float("inf")] * 9, "unbounded"),
        ([0, -1], [1, 1], "[0, 1], [-1, 1]"),
        (list(range(8)), [9] * 8, "[0, 9], [1, 9], [2, 9], [3, 9], [4, 9], [5, 9], … (8 dimensions)"),
    ],
)
def test_bounds_in_short(low: list[float], high: list[float], said: str) -> None:
    assert bounds(low, high) == said
