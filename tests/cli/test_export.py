"""`flowrl export`: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowrl
from flowrl import cli
from flowrl.contracts.installing import reinstall
from flowrl.deployment import backends, c_compiler, onnx_model
from flowrl.experiments import export as exporting
from flowrl.experiments.suite.trial import EVALUATION
from tests.small_recipe import small

DATA = Path(__file__).parents[1] / "data" / "checkpoints"
FILES = {"policy.c", "policy.h", "test_policy.c", "Makefile", "policy.onnx", "policy.json", "README.md"}

needs_tools = pytest.mark.skipif(
    c_compiler.compiler() is None or any(shutil.which(tool) is None for tool in ("make",)),
    reason="no C compiler or make",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run, which holds the interface of its actions."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(small(32))
    assert cli.run(["train", str(folder / "small.yaml"), "--out", str(folder), "--name", "tiny", "--json"]) == 0
    return folder / "tiny"


def exported(run: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Export with --json and return policy.json."""
    capsys.readouterr()
    code = cli.run(["export", str(run), "-o", str(out), "--json", *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    document: dict[str, Any] = json.loads(printed.out)
    assert document == json.loads((out / "policy.json").read_text())
    return document


@needs_tools
def test_an_export_is_complete_and_exact(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    document = exported(run, tmp_path / "out", capsys)
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    assert document["sampler"] | {"times": None} == {
        **{"name": "euler", "steps": 2, "nfe": 2, "times": None, "of_training": True}
    }
    assert (document["noise"]["mode"], document["action"]["squash"], document["action"]["low"]) == (
        "input",
        "clip",
        [-1, -1],
    )
    verified = document["verified"]
    assert set(verified["max_abs_error"]) == {"c", "onnx", "onnx, batch 1"} and verified["rows"] == 1004
    assert max(verified["max_abs_error"].values()) <= verified["tolerance"]
    assert document["c"]["constant_bytes"] > 1000 and document["c"]["p50_us"] > 0
    assert document["checkpoint"]["env_steps"] == 32
    readme = (tmp_path / "out" / "README.md").read_text()
    assert (
        "flowrl_noise(&state, noise);" in readme and "Run tiny (ckpt.pt): fpo on flowrl/GridWorld-v0, seed 0" in readme
    )


@needs_tools
def test_a_flow_to_a_mixture_is_exported_with_one_evaluation_of_its_network(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    begin = ["train", str(run.parent / "small.yaml"), "--out", str(tmp_path), "--name", "mixed", "--json"]
    assert cli.run([*begin, "--set", "policy.base=mixture", "--set", "policy.output_scale=0"]) == 0
    document = exported(tmp_path / "mixed", tmp_path / "out", capsys)
    assert (document["sampler"]["nfe"], document["sampler"]["times"]) == (1, [0, 0.5])
    assert document["verified"]["left_out"] == 0.01
    assert "1 network evaluation per action, 2 of the velocity" in (tmp_path / "out" / "README.md").read_text()
    torch = flowrl.load(tmp_path / "mixed", backend="torch", noise="zero")
    obs = np.random.default_rng(0).standard_normal((9, torch.observation_size)).astype(np.float32)
    for backend in ("c", "onnx"):
        loaded = flowrl.load(tmp_path / "out", backend=backend, noise="zero")
        assert np.abs(loaded(obs) - torch(obs)).max() < 1e-5


def test_files_of_an_earlier_export_do_not_stay(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    exported(run, tmp_path, capsys, "--format", "c", "--no-verify")
    (tmp_path / "notes.txt").write_text("mine")
    exported(run, tmp_path, capsys, "--format", "onnx")
    assert {file.name for file in tmp_path.iterdir()} == {"policy.onnx", "policy.json", "README.md", "notes.txt"}


@needs_tools
def test_the_exported_files_act_as_the_checkpoint_does(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the environment: the same actions from the same noise, through the makefile's library and ONNX Runtime."""
    from flowrl.experiments import deployable, evaluate
    from tests.deployment import c_programs, random_policies

    exported(run, tmp_path, capsys, "--name", "grid", "--sampler", "heun:3")
    c_programs.run(["make", "test", "policy.so"], tmp_path)
    obs, noise = random_policies.inputs(2, 2)
    policy = deployable.deployable(evaluate.open_checkpoint(run), evaluate.EvalRequest("heun", 3))
    expected = policy.act()(obs, noise)
    assert np.abs(expected).max() <= 1
    for backend in (
        backends.CBackend(tmp_path / "policy.so", "grid"),
        backends.OnnxBackend(str(tmp_path / "policy.onnx")),
    ):
        assert np.abs(backends.actions_of(backend, 2, given=True)(obs, noise) - expected).max() < 1e-6


@needs_tools
def test_fixed_noise_is_that_of_eval(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from flowrl.experiments import build, evaluate

    exported(run, tmp_path, capsys, "--noise", "fixed:4", "--raw", "--format", "onnx")
    opened = evaluate.open_checkpoint(run)
    policy = build.load_policy(
        opened.path, opened.content, evaluate.configured(opened, evaluate.EvalRequest(noise="fixed")), 4
    ).policy
    obs = torch.tensor([[0.1, -0.4], [0.9, 0.0]])
    found = backends.OnnxBackend(str(tmp_path / "policy.onnx"))
    assert (
        np.abs(backends.actions_of(found, 2, given=False)(obs.numpy(), obs.numpy()) - policy(obs).numpy()).max() < 1e-6
    )


@pytest.mark.parametrize(
    ("options", "mode", "scale"),
    [
        (["--noise-scale", "0.25"], "input", 0.25),
        (["--set", "noise_scale=0.25"], "input", 0.25),
        (["--set", "noise_scale=0.25", "--noise", "input"], "input", 1.0),
        (["--set", "noise=zero"], "zero", 0.0),
        (["--set", "noise=zero", "--noise-scale", "0.25"], "input", 0.25),
        (["--noise-scale", "0"], "zero", 0.0),
        (["--noise", "seeded:3", "--noise-scale", "0.5"], "seeded", 0.5),
    ],
)
def test_the_scale_of_the_noise_is_that_of_the_options_or_of_the_configuration(
    options: list[str], mode: str, scale: float, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = exported(run, tmp_path, capsys, "--format", "c", "--no-verify", *options)
    assert (document["noise"]["mode"], document["noise"]["scale"]) == (mode, scale)


@pytest.mark.parametrize("noise", ["zero", "half"])
def test_a_scale_is_refused_for_noise_that_has_one(
    noise: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--noise", noise, "--noise-scale", "0.5", "-o", str(tmp_path / "out")]
    assert cli.run(["export", str(run), *options]) == 2
    assert f"--noise {noise} has its scale already" in capsys.readouterr().err
    assert not [*(tmp_path / "out").iterdir()]


@needs_tools
@pytest.mark.parametrize(
    ("noise", "mode", "scale"), [("half", "input", 0.5), ("zero", "zero", 0.0), ("seeded:3", "seeded", 1.0)]
)
def test_every_noise_is_exported(
    noise: str, mode: str, scale: float, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.deployment import c_programs

    document = exported(run, tmp_path, capsys, "--noise", noise)
    assert (document["noise"]["mode"], document["noise"]["scale"]) == (mode, scale)
    c_programs.run(["make", "test"], tmp_path)
    inputs = [each.name for each in onnx_model.session(str(tmp_path / "policy.onnx")).get_inputs()]
    assert inputs == (["obs", "noise"] if mode == "input" else ["obs"])


def test_the_metadata_are_those_that_loaders_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    document = exported(DATA / "humanoid-fpo" / "run", tmp_path, capsys, "--format", "onnx", "--noise", "zero")
    found = {each.key: each.value for each in onnx.load(str(tmp_path / "policy.onnx")).metadata_props}
    assert found["joint_names"].split(",") == document["action"]["names"] and len(document["action"]["names"]) == 28
    assert found["flowrl.sampler"] == "euler:10" and found["flowrl.noise"] == "zero"
    assert found["flowrl.checkpoint_sha256"] == document["checkpoint"]["sha256"]
    assert "policy.c" not in document["files"]


@needs_tools
def test_an_inexact_export_exits_with_7_and_writes_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exporting.backends.actions_of
    monkeypatch.setattr(
        exporting.backends, "actions_of", lambda *a, **k: lambda obs, noise: 1.00002 * right(*a, **k)(obs, noise)
    )
    assert cli.run(["export", str(run), "-o", str(tmp_path / "out"), "--raw"]) == 7
    assert "is not exact, and no file was written. c: " in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sampler", "dopri5"], "so its time per action has no bound"),
        (["--sampler", "euler:3", "--steps", "4"], "leave --steps 4 out"),
        (["--sampler", "eulr"], "Did you mean 'euler'?"),
        (["--sampler", "euler:10,heun:5"], "Give one, as in --sampler euler:10."),
        (["--format", ","], "expected c, onnx or both"),
        (["--format", "c,onx"], "expected c, onnx or both. Did you mean 'onnx'?"),
        (["--noise", "none"], "expected one of input, zero, half"),
        (["--name", "Über"], "expected a C name"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_2(
    options: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", str(run), "-o", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_compiler_exits_with_8_unless_nothing_is_verified(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert cli.run(["export", str(run), "-o", str(tmp_path / "out"), "--format", "c"]) == 8
    assert "--no-verify" in capsys.readouterr().err
    document = exported(run, tmp_path / "out", capsys, "--format", "c", "--no-verify")
    assert document["verified"] is None and "Not verified." in (tmp_path / "out" / "README.md").read_text()


def test_a_missing_onnx_exits_with_8(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.run(["export", str(run), "-o", str(tmp_path / "out"), "--format", "onnx"]) == 8
    assert reinstall("export") in capsys.readouterr().err


def test_the_evaluation_of_a_suite_is_in_the_readme(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / "trial")
    row = {"return_mean": 7.25, "return_ci95": [7.0, 7.5], "episodes": 100, "noise": "random"}
    (copied / EVALUATION).write_text(json.dumps({"env_steps": 32, "evaluations": {"random": row}}))
    exported(copied, tmp_path / "out", capsys, "--format", "c", "--no-verify")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Evaluated over 100 episodes (random noise): return 7.25 [7, 7.5] (95 %)." in text
    row |= {"return_ci95": [None, None], "episodes": 1}  # of one episode
    (copied / EVALUATION).write_text(json.dumps({"env_steps": 32, "evaluations": {"random": row}}))
    exported(copied, tmp_path / "out", capsys, "--format", "c", "--no-verify")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Evaluated over 1 episode (random noise): return 7.25." in text
    (copied / EVALUATION).write_text(
        json.dumps({"env_steps": 31, "evaluations": {"random": row}})
    )  # of another training
    assert exported(copied, tmp_path / "out", capsys, "--format", "c", "--no-verify")["evaluation"] is None


def test_observations_that_float32_does_not_resolve_are_reported() -> None:
    from dataclasses import replace

    from flowrl.deployment.folding import fold
    from tests.deployment import random_policies

    program = fold(random_policies.flow())
    assert exporting._notes(program) == []
    shift = program.shift.copy()
    shift[3] = 1e6 / program.scale[3]  # a million standard deviations: 0.1 of them a step
    assert "[3]" in exporting._notes(replace(program, shift=shift))[0]


def test_the_table_says_what_was_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(run), "-o", str(tmp_path), "--format", "c", "--no-verify"]) == 0
    printed = capsys.readouterr()
    assert "euler:2 (that of the training), 2 network evaluations per action" in printed.out
    assert "an input, N(0, 1), drawn for each action, as in the training" in printed.out
    assert printed.err.splitlines()[-1] == f"next: make -C {tmp_path} test"


def test_files_of_the_users_own_are_not_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that is no export, beside a policy.json of another program, and in an export that lists none."""
    options = ["export", str(run), "-o", str(tmp_path), "--format", "c", "--no-verify"]
    for own in ({"README.md": "mine", "Makefile": "all:"}, {"policy.json": '{"format": 1}'}):
        for name, text in own.items():
            (tmp_path / name).write_text(text)
        assert cli.run(options) == 2
        said = capsys.readouterr().err
        assert all(name in said for name in own) and f"--out {tmp_path}/export, or move them away" in said
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == own
        for name in own:
            (tmp_path / name).unlink()
    exported(run, tmp_path, capsys, "--format", "c", "--no-verify")
    (tmp_path / "policy.onnx").write_text("mine")
    assert cli.run(options) == 2
    assert "the folder has policy.onnx, which no export has written there" in capsys.readouterr().err
    (tmp_path / "policy.onnx").unlink()
    (tmp_path / "README.md").write_text("mine")
    assert cli.run(options) == 2
    assert "README.md, which was changed since it was exported" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "README.md").unlink()
    exported(run, tmp_path, capsys, "--format", "c", "--no-verify")


PARTED = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Parted(gymnasium.Env):
    observation_space = spaces.Dict(
        {"speed": spaces.Box(-1, 1, (2,)), "joints": spaces.Box(-1, 1, (4,)), "elbow": spaces.Discrete(2)}
    )
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def see(self):
        return {"speed": np.zeros(2), "joints": self.np_random.uniform(-1, 1, 4), "elbow": 1}

    def step(self, action):
        self.t += 1
        return self.see(), 1.0, False, self.t == 5, {}
"""


def test_the_order_of_a_dict_observation_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Gymnasium flattens it: the keys of its Dict in the order of the space."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parted.py").write_text(PARTED)
    (tmp_path / "small.yaml").write_text(small(32).replace("flowrl/GridWorld-v0", "parted.py:Parted"))
    assert cli.run(["train", "small.yaml", "--name", "a", "--json"]) == 0
    document = exported(tmp_path / "runs" / "a", tmp_path / "out", capsys, "--format", "c", "--no-verify")
    assert list(document["observation"]["parts"].items()) == [("elbow", 2), ("joints", 4), ("speed", 2)]
    assert ": elbow 2, joints 4, speed 2.\n" in (tmp_path / "out" / "README.md").read_text()
