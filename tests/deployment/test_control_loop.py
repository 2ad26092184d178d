"""The control loops of examples/: what they observe and do is what the environment of the training does."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

import flowrl
from flowrl import cli
from flowrl.deployment import c_compiler
from tests.deployment import c_programs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(c_compiler.compiler() is None, reason="there is no C compiler")]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quadruped"
COMMAND = (0.6, 0.0, 0.3)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a quadruped that was hardly trained."""
    folder = tmp_path_factory.mktemp("quadruped")
    sets = ["env.count=8", "total_steps=512", "rollout.steps=16", "policy.hidden=[32, 32]", "learner.critic.hidden=[8]"]
    words = [word for each in sets for word in ("--set", each)]
    train = ["train", str(EXAMPLE / "quadruped_fpo.yaml"), "--set", f"env.id={EXAMPLE}/quadruped.py:Quadruped"]
    assert cli.run([*train, *words, "--out", str(folder), "--name", "run"]) == 0
    assert cli.run(["export", str(folder / "run"), "-o", str(folder / "out"), "--format", "c"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("control_loop", EXAMPLE / "control_loop.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["control_loop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def standing(example: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_path(str(example.MODEL))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("stand").id)
    return model, data


def test_the_loop_walks_as_the_environment_does(export: Path, example: Any) -> None:
    """From the same state, with the same policy: equal observations, and equal joints after 15 actions."""
    env = flowrl.make_env(
        f"{EXAMPLE}/quadruped.py:Quadruped", 1, options={"disturbances": False, "command_fixed": list(COMMAND)}
    )
    task = env._envs.runner.task.user  # type: ignore[attr-defined]
    obs = env.reset(seed=3)
    model, data = standing(example)
    data.qpos[:], data.qvel[:] = task.qpos[0].numpy(), task.qvel[0].numpy()
    seen = np.zeros(50)
    example.observe(data, model.key("stand").qpos[7:], data.ctrl, np.array(COMMAND), 0, seen)
    assert np.abs(seen - obs[0].numpy()).max() < 1e-6
    act = flowrl.load(export, noise="zero")
    raw = flowrl.load(export.parent / "run", noise="zero", raw=True)
    for _ in range(15):
        obs = env.step(torch.from_numpy(raw(obs.numpy()))).obs
    example.walk(act, data, model, np.array(COMMAND), 15)
    assert np.abs(data.qpos - task.qpos[0].numpy()).max() < 1e-4
    env.close()


def test_the_program_in_c_walks_as_the_loop_in_python(export: Path, example: Any, tmp_path: Path) -> None:
    package = Path(mujoco.__path__[0])
    headers = package / "include"
    libraries = sorted(package.glob("libmujoco.so.*"))
    if not (headers / "mujoco" / "mujoco.h").is_file() or not libraries:
        pytest.skip("the package mujoco has no C library here")
    flags = ["-O3", "-march=native", "-ffp-contract=fast", "-Wall", "-Wextra", f"-I{headers}", f"-I{export}"]
    sources = [EXAMPLE / "control_loop.c", export / "policy.c"]
    c_programs.run(["cc", *flags, *sources, libraries[-1], f"-Wl,-rpath,{package}", "-lm", "-o", "loop"], tmp_path)
    printed = c_programs.run(["./loop", example.MODEL, *COMMAND, "0.4"], tmp_path).stdout
    model, data = standing(example)
    example.walk(flowrl.load(export, noise="zero"), data, model, np.array(COMMAND), 20)
    found = [float(number) for number in re.findall(r"-?\d+\.\d{6}", printed)]
    assert found == pytest.approx(data.qpos[:3].tolist(), abs=1e-3) and "0 held" in printed
    assert abs(data.qpos[2] - model.key("stand").qpos[2]) > 1e-4  # it has moved


@pytest.mark.skipif(not list(Path(mujoco.__path__[0]).glob("libmujoco.so.*")), reason="mujoco has no C library here")
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)  # half a minute on a machine that does nothing else
def test_the_script_goes_from_a_trained_run_to_a_program_that_walks(tmp_path: Path) -> None:
    """deploy.sh with the weights of the FPO recipe after its 4 M steps: it fits, compares, exports and walks."""
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    shutil.copy(ROOT / "tests" / "data" / "quadruped" / "ckpt.pt", run)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"EPISODES": "8", "SAMPLERS": "euler:5", "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "examples/quadruped/deploy.sh", str(run), str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    x, height = re.findall(r"x (-?[\d.]+) m.*height (-?[\d.]+) m", (out / "walked.txt").read_text())[0]
    assert float(x) > 3 and float(height) > 0.2
    assert (out / "sampler-sweep.json").is_file() and (out / "policy.json").is_file()
