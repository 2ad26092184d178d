"""A new kind of policy is one file and one row: every command then trains, evaluates and resumes it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from flowrl.config.policy_kinds import POLICY_KINDS
from flowrl.storage import checkpoint
from flowrl.training.ratio import RatioName
from tests import other_process

ROOT = Path(__file__).parents[2]
PLANTED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from flowrl.config.policy_kinds import POLICY_KINDS
from tests.experiments.linear_policy import LINEAR
POLICY_KINDS["linear"] = LINEAR
"""
RECIPE = """
algorithm: ppo
total_steps: 160
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {kind: linear}
rollout: {steps: 20}
learner: {ratio: likelihood, minibatches: 2, epochs: 2, entropy_coefficient: 0.01, critic: {hidden: [16]}}
"""


COMMANDS = (
    "train linear.yaml --name short --json",
    "train linear.yaml --name straight --set total_steps=320",
    "eval short --episodes 2 --sampler heun --json",
    "train --resume runs/short --set total_steps=320",
    "inspect short --json",
    "bench-latency short",
)
MISTAKES = {
    "policy.kind=lineal": ["flow, gaussian or linear", "Did you mean 'linear'?"],
    "policy.hidden=[3]": ["policy.hidden: unknown key", "linear"],
    "learner.ratio=averaged": ["policy.kind 'linear'", "a linear policy takes 'likelihood'"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "linear.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[other_process.Finished]:
    """What `COMMANDS` and then those with `MISTAKES` print, all in one process with the linear policy planted."""
    mistaken = [f"train linear.yaml --dry-run --set {override}" for override in MISTAKES]
    return other_process.flowrl([command.split() for command in (*COMMANDS, *mistaken)], folder, PLANTED)


def test_a_planted_kind_is_trained_evaluated_and_resumed(folder: Path, results: list[other_process.Finished]) -> None:
    """2 iterations of 4 · 20 steps, continued to 4: the same weights as of 4 iterations at once."""
    short, straight, evaluation, resumed, inspection, timing = results[: len(COMMANDS)]
    for code, _, err in (short, straight, evaluation, resumed, inspection):
        assert code == 0, err
    assert json.loads(short[1])["metrics"]["iteration"] == 2
    assert '"sampler": null' in evaluation[1]
    actors = [checkpoint.load(folder / "runs" / name / "ckpt.pt")["actor"] for name in ("short", "straight")]
    assert actors[0].keys() == actors[1].keys() == {"mean.weight", "mean.bias"}
    assert all(torch.equal(weight, actors[1][name]) for name, weight in actors[0].items())
    assert timing[0] == 2
    assert "linear policy: it has no flow" in timing[2]


def test_messages_name_a_planted_kind(results: list[other_process.Finished]) -> None:
    for (code, _, err), words in zip(results[len(COMMANDS) :], MISTAKES.values(), strict=True):
        assert code == 2
        assert [word for word in words if word not in err] == []


def test_every_ratio_belongs_to_a_kind() -> None:
    names, _ = get_args(RatioName)
    assert {ratio for kind in POLICY_KINDS.values() for ratio in kind.ratios} == set(get_args(names))
    for name, kind in POLICY_KINDS.items():
        assert kind.settings.model_fields["kind"].default == name


def test_generic_code_names_no_kind_of_policy() -> None:
    """Outside the table, the kinds' own files, the presets and the noise modes no string is a kind's name."""
    own = {"policy_kinds.py", "schema.py", "suggestions.py", "noise_modes.py"}
    found = [
        f"{path}:{node.lineno}"
        for path in (ROOT / "src" / "flowrl").rglob("*.py")
        if path.name not in own and path.parent.name != "policies"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in POLICY_KINDS
    ]
    assert found == []
