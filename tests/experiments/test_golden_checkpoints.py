"""Checkpoints that earlier versions wrote load, evaluate and resume: every release must read them.

Each folder of tests/data/checkpoints/ holds a run as it was saved, the checkpoint that the version which saved it
wrote after resuming it for as many steps again, and that version's evaluation of the run. Those of flows were made
again when velocities began to be computed with one operation a layer, which rounds otherwise. All were made with
`HARDWARE` in the environment, on the machine of machine.json: there they must come out equal bit for bit. Another
processor rounds some sums otherwise, so elsewhere they must be close.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from flowrl.storage import checkpoint
from tests import other_process

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[1] / "data" / "checkpoints"
HARDWARE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # with which NumPy rounds the gaits otherwise
}
RUNS = sorted(path.parent.name for path in DATA.glob("*/resumed.pt"))
NEW_KEYS = {
    "config.env.history",
    "config.env.flatten",
    "config.env.timeout_s",
    "config.init_from",
    "config.trackers.0",
    "config.noise_scale",
    "config.shards",
    "config.env.simulator",
    *(f"config.env.warp.{key}" for key in ("contacts", "constraints", "device", "nursery", "deterministic")),
    "config.policy.base",
    "config.policy.components",
    "config.policy.residual",
    "config.policy.smallest_std",
    "config.learner.anchor",
    "config.learner.graph",
    "config.learner.critic.residual",
    "config.learner.probes.antithetic",
    "config.learner.probes.coupled",
    "config.learner.probes.odds",
    "config.rollout.noise_correlation",
}  # of the configuration, since the golden checkpoints were saved
TIMES = {"progress.seconds", "metrics_offset", "flowrl", "format"}  # they differ between runs, or between versions


def this_machine() -> dict[str, str]:
    """What decides the last bit of a sum."""
    features = sorted(np._core._multiarray_umath.__cpu_features__.items())  # type: ignore[attr-defined]
    return {
        "machine": platform.machine(),
        "processor": " ".join(name for name, present in features if present),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The folder of the resumed runs, and the evaluations, all made by one process with `HARDWARE`."""
    folder = tmp_path_factory.mktemp("golden")
    commands = []
    for name in RUNS:
        run = shutil.copytree(DATA / name / "run", folder / name)
        steps = yaml.safe_load((run / "config.yaml").read_text())["total_steps"]
        commands.append(["eval", str(DATA / name / "run"), "--episodes", "4", "--json"])
        commands.append(["train", "--resume", name, "--set", f"total_steps={2 * steps}"])
    results = other_process.flowrl(commands, folder, variables=HARDWARE)
    assert [result.err for result in results if result.code] == []
    return folder, {name: json.loads(result.out) for name, result in zip(RUNS, results[::2], strict=True)}


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """'actor.layers.0.weight' -> its tensor, and so for everything in a checkpoint."""
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{path}.{number}", item) for number, item in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for at, item in items for name, leaf in leaves(item, at).items()}


def same(one: Any, other: Any, exact: bool) -> bool:
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.equal(one, other) if exact else torch.allclose(one.double(), other.double(), 1e-2, 1e-2)
    if isinstance(one, float) and not exact:
        return math.isclose(one, other, rel_tol=1e-2, abs_tol=1e-2)
    return one == other or (one != one and other != other)


def is_digest(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.numel() == 32


def is_golden_machine() -> bool:
    return bool(json.loads((DATA / "machine.json").read_text()) == this_machine())


def test_there_are_golden_checkpoints() -> None:
    assert RUNS == ["cheetah-fpo", "gridworld-fpo", "humanoid-fpo", "pendulum-ppo-ema"]


@pytest.mark.parametrize("name", RUNS)
def test_a_golden_checkpoint_evaluates_as_ever(name: str, outcome: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    expected = json.loads((DATA / name / "evaluation.json").read_text())
    found = dict(outcome[1][name])
    del expected["action_us"], found["action_us"]
    assert found.pop("perturbation") == 0  # not known when they were saved
    assert found.keys() == expected.keys()
    if is_golden_machine():
        assert found == expected


@pytest.mark.parametrize("name", RUNS)
def test_a_golden_checkpoint_resumes_as_ever(name: str, outcome: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    found = leaves(checkpoint.load(outcome[0] / name / "ckpt.pt"))
    expected = leaves(checkpoint.load(DATA / name / "resumed.pt"))
    found = {key: value for key, value in found.items() if not key.startswith("platform.")}
    # On every machine: a new key of the configuration would else be noticed on the golden one alone.
    configured = {key for key in found if key.startswith("config.")} - NEW_KEYS
    assert configured == {key for key in expected if key.startswith("config.")}
    if is_golden_machine():
        assert {key for key in found if not key.startswith("interface.")} - NEW_KEYS == expected.keys()
        expected = {key: value for key, value in expected.items() if not is_digest(value)}  # of motions: newer
        differing = [key for key in expected if key not in TIMES and not same(found[key], expected[key], exact=True)]
    else:
        learned = ("actor.", "critic.", "normaliser.", "progress.iteration", "progress.env_steps")
        differing = [
            key for key in expected if key.startswith(learned) and not same(found[key], expected[key], exact=False)
        ]
    assert differing == []
