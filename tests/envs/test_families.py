"""A family is one file and one row: every command knows a family that was added so, and no other file changes."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl.envs import families, gridworld
from flowrl.envs.humanoid import metrics
from tests import other_process

pytestmark = pytest.mark.timeout(600)  # processes that import torch, on machines of any kind

ROOT = Path(__file__).parent.parent.parent
ROW = '    "flowrl.envs.toy_family",\n'
RECIPE = """
total_steps: 256
env: {id: toy/Bead-v0, count: 4, friction: 0.25}
policy: {hidden: [8]}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}
fpo: {sampler: {name: euler, steps: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source of flowrl, the toy family planted in it, and a recipe."""
    folder = tmp_path_factory.mktemp("families")
    shutil.copytree(ROOT / "src" / "flowrl", folder / "src" / "flowrl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("toy_family.py"), folder / "src" / "flowrl" / "envs")
    table = folder / "src" / "flowrl" / "envs" / "families.py"
    before = table.read_text()
    table.write_text(before.replace("MODULES = (\n", f"MODULES = (\n{ROW}"))
    assert table.read_text() != before
    (folder / "bead.yaml").write_text(RECIPE)
    return folder


COMMANDS = {
    "list": ["envs", "--json"],
    "describe": ["envs", "toy/Bead-v0"],
    "describe as JSON": ["envs", "toy/Bead-v0", "--json"],
    "train": ["train", "bead.yaml", "--name", "bead"],
    "train a part": ["train", "bead.yaml", "--name", "parts", "--set", "total_steps=128"],
    "resume": ["train", "--resume", "runs/parts", "--set", "total_steps=256"],
    "wrong value": ["train", "bead.yaml", "--set", "env.friction=2", "--dry-run"],
    "key as option": ["train", "bead.yaml", "--set", "env.options.friction=0.5", "--name", "x"],
    "key of another": ["train", "gridworld.yaml", "--set", "env.friction=0.5", "--name", "x"],
    "eval": ["eval", "runs/bead", "--episodes", "12", "--csv", "beads.csv", "--json"],
    "eval otherwise": ["eval", "runs/bead", "--set", "env.friction=0.5"],
    "suite": ["suite", "bead.yaml", "--algorithms", "fpo", "--seeds", "1", "--episodes", "4", "--out", "out"],
    "compare": ["compare", "out"],
}


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Exit code, stdout and stderr of every command, all run by that flowrl in one other process."""
    path = os.pathsep.join([str(folder / "src"), str(ROOT / "samplers")])
    found = other_process.flowrl(list(COMMANDS.values()), folder, variables={"PYTHONPATH": path})
    return {name: result._asdict() for name, result in zip(COMMANDS, found, strict=True)}


def output(results: dict[str, dict[str, Any]], name: str) -> str:
    assert results[name]["code"] == 0, results[name]["err"]
    return results[name]["out"]


def refusal(results: dict[str, dict[str, Any]], name: str) -> str:
    assert results[name]["code"] == 2
    return results[name]["err"]


def test_envs_lists_and_describes_a_planted_family(results: dict[str, Any]) -> None:
    row = {"id": "toy/Bead-v0", "origin": "flowrl", "episode": "8", "note": "", "recipe": ""}
    assert row in json.loads(output(results, "list"))
    values = json.loads(output(results, "describe as JSON"))
    assert (values["beads"], values["native"], values["exact_resume"]) == (1, True, True)
    text = output(results, "describe")
    assert "the place of the bead (m)" in text and "1 / (1 + x²)" in text


def test_train_reads_the_keys_of_a_planted_family(results: dict[str, Any], folder: Path) -> None:
    output(results, "train")
    assert "friction: 0.25" in (folder / "runs/bead/config.yaml").read_text()
    assert "env.friction" in refusal(results, "wrong value") and "<= 1" in refusal(results, "wrong value")
    assert "write env.friction" in refusal(results, "key as option")
    assert f"env.friction: {gridworld.ID} has no option 'friction'" in refusal(results, "key of another")


def test_a_planted_family_resumes_exactly(results: dict[str, Any], folder: Path) -> None:
    output(results, "train a part"), output(results, "resume")
    straight, parts = (
        [json.loads(line)["return_mean"] for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("runs/bead", "runs/parts")
    )
    assert straight == parts and len(straight) == 8


def test_eval_reports_measures_and_variants_of_a_planted_family(results: dict[str, Any], folder: Path) -> None:
    values = json.loads(output(results, "eval"))
    assert values["episodes"] == 12 and values["length_mean"] == 8 and values["distance_m"] > 0
    assert values["success_rate"] is not None and 0 < values["return_mean"] < 8
    with (folder / "beads.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["start"] for row in rows} == {"left", "right"}
    assert sum(int(row["episodes"]) for row in rows) == 12
    assert "was trained with friction 0.25" in refusal(results, "eval otherwise")


def test_suite_and_compare_know_the_return_range_of_a_planted_family(results: dict[str, Any], folder: Path) -> None:
    output(results, "suite"), output(results, "compare")
    scale = json.loads((folder / "out" / "compare.json").read_text())["tasks"]["bead"]["scale"]
    assert (scale["low"], scale["high"], scale["reason"]) == (0, 8, "the range of a bead's return")
    assert "distance_m" in (folder / "out" / "compare.md").read_text()


def test_ids_and_settings_keys_belong_to_one_family() -> None:
    ids = [id for family in families.FAMILIES for id in family.ids]
    models = [family.settings for family in families.FAMILIES if family.settings is not None]
    keys = [key for model in models for key in model.model_fields]
    assert len(ids) == len(set(ids)) and len(keys) == len(set(keys))
    assert all(field.default is None for model in models for field in model.model_fields.values())


def test_the_measures_of_a_record_are_those_of_its_environment() -> None:
    (measures,) = [family.measures for family in families.FAMILIES if family.measures]
    assert ("success", *measures) == tuple(metrics.TrackingMetrics(1).compute(torch.tensor([0])))
