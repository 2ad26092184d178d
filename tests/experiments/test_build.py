"""Loading what a checkpoint holds: nothing in it is executed, and nothing is built before all of it is checked."""

from __future__ import annotations

import io
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl.cli import run
from flowrl.storage import checkpoint, integrity

GOLDEN = Path(__file__).parents[1] / "data" / "checkpoints" / "gridworld-fpo" / "run"


@pytest.mark.parametrize(
    "command",
    [
        ["plot", "run", "--field", "--out", "field.png"],
        ["eval", "run", "--episodes", "1"],
        ["play", "run"],
        ["bench-latency", "run", "--samplers", "euler", "--steps", "1"],
        ["train", "--resume", "run", "--set", "total_steps=5000"],
    ],
    ids=" ".join,
)
def test_a_file_that_a_checkpoint_names_is_not_run(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(GOLDEN, tmp_path / "run")
    (tmp_path / "evil.py").write_text(
        "open('EXECUTED', 'w')\n\n\nclass S:\n    def __call__(self, v, x, a, b):\n        return x\n"
    )
    content = checkpoint.load(folder / "ckpt.pt")
    content["config"]["sampler"] = {"name": "evil.py:S"}
    checkpoint.save(folder / "ckpt.pt", content)
    assert run(command) == 2
    assert not (tmp_path / "EXECUTED").exists()
    assert "only when you name it" in capsys.readouterr().err


# What a checkpoint holds is checked before anything is built

RUN_KEYS = [
    ("config/policy/hidden", [10**9], "config.policy.hidden"),
    ("config/policy/hidden", [0], "config.policy.hidden"),
    ("config/policy/hidden", [16, 17], "actor.layers.1.weight"),
    ("config/policy/hidden", [16] * 500, "config.policy.hidden"),
    ("config/policy/hidden", [16] * 30_000, "config"),
    ("config/policy/time_features", 10**10, "config.policy.time_features"),
    ("config/policy/time_features", 64, "actor.layers.0.weight"),
    ("config/learner/critic/hidden", [8, 8], "critic.layers.2.weight"),
    ("config/learner/ema_decay", 0.9, "ema_decay"),
    ("config/learner/clipp", 0.1, "config.learner.clipp"),
    ("config/threads", 10**9, "config.threads"),
    ("config/sampler/steps", 10**9, "config.sampler.steps"),
    ("config/total_steps", 10**30, "config.total_steps"),
    ("config/env/count", 65, "env.count"),
    ("config/env/id", "Pendulum-v1", "env.id"),
    ("config/env/options/max_episode_steps", 10**18, "config.env.options"),
    ("config", {}, "config"),
    ("config/policy", None, "config.policy"),
    ("sizes/observation", 2**31, "sizes.observation"),
    ("sizes/action", 2**31, "actor.layers"),
    ("sizes/action", 3, "actor.layers"),
    ("actor/layers.0.weight", torch.zeros(16, 12, dtype=torch.float64), "actor.layers.0.weight"),
    ("actor/layers.9.weight", torch.zeros(1), "actor.layers.9.weight"),
    ("actor/mask.visible", torch.ones(3), "actor.mask.visible"),
    ("optimizer/state/0/exp_avg", torch.zeros(1), "optimizer.state.0.exp_avg"),
    ("optimizer/state/99", {"step": torch.tensor(1.0), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}, "99"),
    ("shards/0/random/generators", {}, "random.generators.noise"),
    ("average", {}, "average"),
    ("shards/0/env/envs", [None] * 64, "env.envs.0"),
    ("progress/iteration", 2**62, "progress.iteration"),
    ("progress/seconds", 1e12, "progress.seconds"),
    ("progress/window_return", -1.7e308, "progress.window_return"),
    ("shards/0/episodes/ended", 2**62, "episodes.ended"),
    ("shards/0/episodes/lengths", torch.full((64,), 2**63 - 1), "episodes.lengths"),
    ("shards/0/episodes/returns", torch.full((64,), 1.7e308, dtype=torch.float64), "episodes.returns"),
    ("shards/0/env/steps", 2**62, "env.steps"),
    ("schedule/updates", 2**62, "schedule.updates"),
    ("normaliser/count", torch.tensor(1e308, dtype=torch.float64), "normaliser.count"),
    ("normaliser/mean", torch.tensor([0, 1e308], dtype=torch.float64), "normaliser.mean"),
    ("normaliser/sum_of_squares", torch.tensor([0, 1e308], dtype=torch.float64), "normaliser.sum_of_squares"),
]


def forge(folder: Path, key: str, value: object) -> Path:
    """A copy of a golden run whose checkpoint has one key changed, and a right checksum."""
    run_folder = shutil.copytree(GOLDEN, folder / "run")
    content = checkpoint.load(run_folder / "ckpt.pt")
    *outer, last = [int(step) if step.isdecimal() else step for step in key.split("/")]
    holder: Any = content
    for step in outer:
        holder = holder[step]
    holder[last] = value
    file = io.BytesIO()
    torch.save(content, file)
    integrity.append_checksum(file)
    (run_folder / "ckpt.pt").write_bytes(file.getvalue())
    return run_folder


@pytest.mark.parametrize(
    ("key", "value", "named"), RUN_KEYS, ids=[f"{key}={value!r:.20}" for key, value, _ in RUN_KEYS]
)
def test_a_forged_checkpoint_is_refused_by_its_file_and_key(
    key: str, value: object, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forge(tmp_path, key, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in (["eval", str(folder), "--episodes", "1"], ["train", "--resume", str(folder)]):
        assert run(command) == 4
        said = capsys.readouterr().err
        assert said.startswith(f"flowrl: {folder / 'ckpt.pt'} cannot be used: ")
        assert named in said
        assert said.count("\n") == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


ENV_KEYS = [
    ("shards/0/env/envs/value/0/1/value", torch.zeros(1, 2, dtype=torch.int64), "shards.0.env.envs.cells"),
    ("shards/0/env/envs/value/0/1/kind", "x", "shards.0.env.envs.cells"),
    ("shards/0/env/envs/value/0/0", "cell", "shards.0.env.envs.cell"),
    ("shards/0/env/envs/value/1/1/value", torch.zeros(64), "shards.0.env.envs.elapsed"),
    ("shards/0/env/envs/value/2/1/value/value/1/1", 3, "shards.0.env.envs.random"),
    ("shards/0/env/envs/value", [], "shards.0.env.envs.cells"),
    ("shards/0/env/envs", {"kind": "dict"}, "shards.0.env.envs"),
]


@pytest.mark.parametrize(("key", "value", "named"), ENV_KEYS, ids=[key for key, *_ in ENV_KEYS])
def test_a_forged_state_of_the_environments_is_refused_by_its_key(
    key: str, value: object, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forge(tmp_path, key, value)
    assert run(["train", "--resume", str(folder), "--set", "total_steps=2048"]) == 4
    said = capsys.readouterr().err
    assert said.startswith("flowrl: ")
    assert f"its key '{named}' " in said
    assert said.count("\n") == 1


def test_settings_of_adam_in_a_checkpoint_are_not_used(tmp_path: Path) -> None:
    group = {"params": [0], "lr": 1e308, "amsgrad": True, "maximize": 1e308, "differentiable": True}
    folder = forge(tmp_path, "optimizer/param_groups", [group, group | {"params": [1]}])
    assert run(["train", "--resume", str(folder), "--set", "total_steps=2048", "--json"]) == 0
    groups = checkpoint.load(folder / "ckpt.pt")["optimizer"]["param_groups"]
    assert [(each["lr"], each["amsgrad"], each["maximize"]) for each in groups] == [
        (0.001, False, False),
        (0.003, False, False),
    ]


# A GPU that is not here


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_of_a_gpu_is_evaluated_on_the_cpu_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forge(tmp_path, "config/device", "cuda")
    line = f"{folder / 'ckpt.pt'} was trained on a GPU (device: cuda), and PyTorch finds none here"
    assert run(["eval", str(folder), "--episodes", "2"]) == 0
    assert capsys.readouterr().err.count(line) == 1
    assert run(["eval", str(folder), "--episodes", "2", "--set", "device=cuda"]) == 2
    assert "Type --set device=cpu" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder), "--set", "total_steps=2048"]) == 2
    assert "Type --set device=cpu" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder), "--set", "total_steps=2048", "--set", "device=cpu"]) == 0


# Names in files, and of folders


def test_a_named_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forge(tmp_path, "config/sampler", {"name": "mine.py:S"})
    (tmp_path / "mine.py").write_text("class S:\n    def __call__(self, v, x, a, b):\n        return x\n")
    assert run(["eval", "run", "--episodes", "1", "--sampler", "mine.py:S"]) == 0
    assert run(["bench-latency", "run", "--samplers", "mine.py:S", "--batch", "1"]) == 0


def test_each_command_says_how_to_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    forge(tmp_path, "config/sampler", {"name": "\x1b]0;P\x07\x1b[2Jx.py:S"})
    for command, remedy in [
        (["eval", "run"], r"when you name it: --import '\x1b]0;P\x07\x1b[2Jx.py'"),
        (["train", "--resume", "run"], r"when you name it: --import '\x1b]0;P\x07\x1b[2Jx.py'"),
        (["bench-latency", "run"], r"when you name it: --import '\x1b]0;P\x07\x1b[2Jx.py'"),
        (["plot", "run", "--field"], "run/ckpt.pt: sampler.name is the file "),
    ]:
        assert run(command) == 2
        said = capsys.readouterr().err
        assert remedy in said
        assert "\x1b" not in said


def test_names_in_a_configuration_cannot_act_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = forge(tmp_path, "metrics_offset", 0)
    text = (folder / "config.yaml").read_text()
    named = text.replace("algorithm: fpo", 'algorithm: "fp\\u202eo$\\\\frac{"')
    assert named != text
    (folder / "config.yaml").write_text(named)
    assert run(["plot", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "fp\\u202eo$\\frac{" in out
    assert "\u202e" not in out


@pytest.mark.parametrize("name", ["a\0b", "../x", "a/b", ".."])
def test_a_run_cannot_be_named_with_a_path(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert run(["train", "gridworld.yaml", "--set", "total_steps=64", "--out", str(out), "--name", name]) == 2
    assert "expected the name of one folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) in ([], [out])
