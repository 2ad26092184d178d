"""Trackers: each through its own library, imported only where it is listed; a missing package names the pip line.

What a tracker is given is shown with a small module in the place of trackio; the libraries themselves run where they
are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowrl import cli
from flowrl.contracts.errors import MissingDependency
from flowrl.contracts.installing import reinstall
from flowrl.reporting import trackers
from flowrl.reporting.jsonl import read
from tests.small_recipe import small

SMALL = small(64)
RECORDING = """
import json
from pathlib import Path

def note(*what):
    with Path("calls.jsonl").open("a") as file:
        file.write(json.dumps(what) + chr(10))
"""
FAKE_TRACKIO = (
    RECORDING
    + """
def init(**options):
    note("init", options["project"], options["name"], options["resume"], options["config"]["total_steps"])

def log(values, step):
    note("log", step, values["time/env_steps"], sorted(values))
    if Path("broken").exists():
        raise OSError("the server is gone")

def finish():
    note("finish")
"""
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def train(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`flowrl train` in a process of its own."""
    command = [sys.executable, "-m", "flowrl", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)


def install(monkeypatch: pytest.MonkeyPatch, text: str = FAKE_TRACKIO) -> None:
    """Let `import trackio` give a module with this text."""
    module = ModuleType("trackio")
    module.__spec__ = ModuleSpec("trackio", None)
    exec(text, module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, "trackio", module)


def calls() -> list[Any]:
    return [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", trackers.NAMES)
def test_a_missing_package_names_the_pip_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as refusal:
        trackers.check([name], "my.yaml line 3, key trackers")
    assert str(refusal.value).startswith(f"my.yaml line 3, key trackers: the tracker {name} needs the package {name}")
    assert f"Type: {reinstall(name)}; or take" in str(refusal.value)


def test_a_missing_package_is_found_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    Path("with.yaml").write_text(SMALL + "trackers: [tensorboard, mlflow]\n")
    assert cli.run(["train", "with.yaml"]) == 8
    assert "with.yaml line 8, key trackers" in capsys.readouterr().err
    assert cli.run(["suite", "with.yaml", "--algorithms", "fpo", "--out", "s"]) == 8
    assert not Path("runs").exists() and not Path("s").exists()


def test_every_tracker_but_tensorboard_has_an_extra() -> None:
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert trackers.LIBRARIES.keys() <= extras["optional-dependencies"].keys()
    assert trackers.ADVICE.keys() == trackers.LIBRARIES.keys()


def test_an_unknown_tracker_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "small.yaml", "--set", "trackers=[wanbd]"]) == 2
    message = capsys.readouterr().err
    assert "trackers[0]" in message and "wandb" in message and "Traceback" not in message


def test_no_library_is_imported_unless_it_is_listed() -> None:
    code = (
        "import sys; from flowrl import cli; code = cli.run(['train', 'small.yaml', '--json', '--set', 'trackers=[]']);"
        "names = 'tensorboard', 'wandb', 'trackio', 'mlflow';"
        "print([name for name in names if name in sys.modules], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "[]"
    assert list(Path("runs").glob("*/events.out.tfevents.*")) == []


def test_the_default_is_tensorboard() -> None:
    assert cli.run(["train", "small.yaml", "--name", "a", "--json"]) == 0
    assert len(list(Path("runs/a").glob("events.out.tfevents.*"))) == 1


def test_a_tracker_gets_every_iteration_and_a_resume_continues_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert cli.run(["train", "small.yaml", "--name", "a", "--set", "trackers=[trackio]", "--json"]) == 0
    first = calls()
    assert first[0] == ["init", "flowrl", "a", "never", 64] and first[-1] == ["finish"]
    assert [call[1:3] for call in first[1:-1]] == [[1, 32.0], [2, 64.0]]
    assert {"loss/cfm", "optimizer/learning_rate", "time/seconds"} <= set(first[2][3])
    Path("calls.jsonl").unlink()
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    assert cli.run(["train", "--resume", "runs/a", "--set", "total_steps=96", "--json"]) == 0
    assert calls()[0] == ["init", "mine", "a", "allow", 96] and calls()[1][1:3] == [3, 96.0]


def test_a_tracker_that_fails_does_not_stop_the_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch)
    Path("broken").touch()
    assert cli.run(["train", "small.yaml", "--name", "a", "--set", "trackers=[trackio]", "--json"]) == 0
    said = capsys.readouterr().err
    assert said.count("the tracker trackio failed: OSError: the server is gone") == 1
    assert len(read(folder / "runs/a/metrics.jsonl")) == 2


def test_a_tracker_that_cannot_start_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FAKE_TRACKIO.replace("def init(**options):", "def init():"))
    assert cli.run(["train", "small.yaml", "--name", "a", "--set", "trackers=[trackio]", "--json"]) == 2
    said = capsys.readouterr().err
    assert "trackers: trackio cannot record this run: TypeError" in said and "Or take trackio out" in said
    assert "Traceback" not in said


def test_damaged_ids_begin_a_new_run(folder: Path) -> None:
    for text in ("", "[]", '{"wandb": 3}', '{"wandb": "../../x"}'):
        (folder / trackers.IDS).write_text(text)
        assert trackers._ids(folder) == {}
    (folder / trackers.IDS).write_text('{"wandb": "a1b2-c3"}')
    assert trackers._ids(folder) == {"wandb": "a1b2-c3"}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_records_locally_and_continues(folder: Path) -> None:
    store = f"sqlite:///{folder}/mlflow.db"
    for arguments in (["small.yaml", "--name", "a", "--set", "trackers=[mlflow]"],
                      ["--resume", "runs/a", "--set", "total_steps=96"]):  # fmt: skip
        done = train(folder, *arguments, "--json", MLFLOW_TRACKING_URI=store)
        assert done.returncode == 0, done.stderr
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("flowrl").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["total_steps"] == "64"
    history = client.get_metric_history(run.info.run_id, "optimizer/learning_rate")
    assert [point.step for point in history] == [32, 64, 96]


@needs("wandb")
@pytest.mark.slow
def test_wandb_records_offline(folder: Path) -> None:
    arguments = ["small.yaml", "--name", "a", "--set", "trackers=[wandb]", "--json"]
    done = train(folder, *arguments, WANDB_MODE="offline", WANDB_DIR=str(folder), WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert json.loads(Path("runs/a/trackers.json").read_text()).keys() == {"wandb"}


@needs("trackio")
@pytest.mark.slow
def test_trackio_records_locally(folder: Path) -> None:
    done = train(folder, "small.yaml", "--name", "a", "--set", "trackers=[trackio]", "--json", TRACKIO_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert list(folder.glob("flowrl*"))
