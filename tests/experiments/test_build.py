"""Loading a policy: what a checkpoint names is not executed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowrl.cli import run
from flowrl.storage import checkpoint

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
