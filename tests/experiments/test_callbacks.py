"""Callbacks: called with the metrics of every iteration, able to stop a run, and run only when the user names them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import flowrl
from flowrl import cli
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.experiments.callbacks import CallbackFailed, Callbacks, NamedCallback
from flowrl.reporting.jsonl import read
from flowrl.storage import checkpoint
from tests.small_recipe import small

SMALL = small(160)
OWN = '''
import json
from pathlib import Path

def record(metrics):
    with Path("seen.jsonl").open("a") as file:
        file.write(json.dumps(metrics) + chr(10))
    metrics.clear()

def stop_after_two(metrics):
    return metrics["iteration"] == 2

class Closing:
    """Is made once and closed at the end."""
    made = 0
    def __init__(self):
        self.calls = 0
        Closing.made += 1
    def __call__(self, metrics):
        self.calls += 1
    def close(self):
        Path("closed").write_text(f"{self.calls} {Closing.made}")

def fail(metrics):
    if metrics["iteration"] == 3:
        raise ValueError("no such luck")

def leave(metrics):
    raise SystemExit(0)

def interrupt(metrics):
    raise KeyboardInterrupt

def answer(metrics):
    return 3.5

NUMBER = 3
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def train(*arguments: str) -> int:
    return cli.run(["train", *arguments])


def test_every_iteration_is_seen_with_all_its_metrics(folder: Path) -> None:
    Path("with.yaml").write_text(SMALL + "callbacks: [own.py:record]\n")
    assert train("with.yaml", "--name", "a", "--json") == 0
    seen = [json.loads(line) for line in Path("seen.jsonl").read_text().splitlines()]
    assert [metrics["env_steps"] for metrics in seen] == [32, 64, 96, 128, 160]
    # the callback has emptied its dict: the run's own is another one
    written = read(folder / "runs/a/metrics.jsonl")
    assert [list(line) for line in written] == [list(metrics) for metrics in seen]


def test_true_stops_the_run_after_saving_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("small.yaml", "--name", "a", "--callback", "own.py:stop_after_two") == 0
    said = capsys.readouterr().err
    assert "stopped by the callback own.py:stop_after_two after 64 env steps; saved runs/a/ckpt.pt" in said
    content = checkpoint.load(folder / "runs/a/ckpt.pt")
    assert content["progress"]["iteration"] == 2
    assert content["config"]["callbacks"] == ["own.py:stop_after_two"]


def test_the_json_document_names_the_callback(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("small.yaml", "--name", "a", "--callback", "own.py:stop_after_two", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stopped_by"] == "own.py:stop_after_two"
    assert train("small.yaml", "--name", "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stopped_by"] is None


def test_options_come_after_those_of_the_recipe(folder: Path) -> None:
    Path("with.yaml").write_text(SMALL + "callbacks: [own.py:record]\n")
    named = ["--callback", "own.py:Closing", "--callback", "own.py:record"]
    assert train("with.yaml", "--name", "a", *named, "--json") == 0
    config = checkpoint.load(folder / "runs/a/ckpt.pt")["config"]
    assert config["callbacks"] == ["own.py:record", "own.py:Closing"]
    assert len(Path("seen.jsonl").read_text().splitlines()) == 5
    assert Path("closed").read_text() == "5 1"


def test_a_callback_that_fails_does_not_lose_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("small.yaml", "--name", "a", "--callback", "own.py:fail") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the callback own.py:fail failed: ValueError: no such luck (own.py:26)" in message
    assert "flowrl train --resume runs/a --import own.py continues it" in message
    assert checkpoint.load(folder / "runs/a/ckpt.pt")["progress"]["iteration"] == 3


@pytest.mark.parametrize(("name", "kind"), [("leave", "SystemExit: 0"), ("interrupt", "KeyboardInterrupt")])
def test_a_callback_that_ends_the_process_loses_nothing(
    name: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("small.yaml", "--name", "a", "--callback", f"own.py:{name}") == 2
    said = capsys.readouterr().err
    assert f"the callback own.py:{name} failed: {kind} (own.py:" in said and "Traceback" not in said
    assert checkpoint.load(folder / "runs/a/ckpt.pt")["progress"]["iteration"] == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own.py:stop_after_tow", "has no 'stop_after_tow'. Did you mean 'stop_after_two'?"),
        ("mine.py:f", "there is no file mine.py"),
        ("own.py:NUMBER", "is a int, which cannot be called"),
        ("own.py:answer", "returned a float: expected True to stop the run"),
    ],
)
def test_a_wrong_callback_is_explained(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("small.yaml", "--name", "a", "--callback", name) == 2
    message = capsys.readouterr().err
    assert words in message and "Traceback" not in message
    if "returned" not in words:
        assert not Path("runs").exists()  # found before anything started


def test_a_suite_finds_a_wrong_callback_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("with.yaml").write_text(SMALL + "callbacks: [own.py:recrod]\n")
    assert cli.run(["suite", "with.yaml", "--algorithms", "fpo", "--out", "s"]) == 2
    assert "Did you mean 'record'?" in capsys.readouterr().err and not Path("s").exists()


def fresh(*arguments: str) -> int:
    """A command to which nothing has been named before."""
    with user_code.naming_apart():
        return cli.run(list(arguments))


def test_a_checkpoints_callbacks_run_only_when_they_are_named_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh("train", "small.yaml", "--name", "a", "--callback", "own.py:record", "--json") == 0
    Path("seen.jsonl").unlink()
    longer = ["train", "--resume", "runs/a", "--set", "total_steps=192", "--json"]
    assert fresh(*longer) == 2
    assert "the file own.py" in capsys.readouterr().err and not Path("seen.jsonl").exists()
    assert fresh(*longer, "--callback", "own.py:record") == 0
    assert len(Path("seen.jsonl").read_text().splitlines()) == 1
    assert fresh("train", "--resume", "runs/a", "--set", "callbacks=[]", "--set", "total_steps=224", "--json") == 0
    assert len(Path("seen.jsonl").read_text().splitlines()) == 1


def test_the_config_of_a_run_is_no_recipe_of_the_users(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fresh("train", "small.yaml", "--name", "a", "--callback", "own.py:record", "--json") == 0
    assert fresh("train", "runs/a/config.yaml", "--name", "b") == 2
    assert "own.py" in capsys.readouterr().err and not Path("runs/b").exists()
    with user_code.naming_apart(), pytest.raises(UsageError, match=r"own\.py"):
        flowrl.train(flowrl.load_config("runs/a/config.yaml"), name="b")
    Path("runs/a/config.yaml").rename("mine.yaml")
    assert fresh("train", "mine.yaml", "--name", "b", "--json") == 0


@pytest.mark.parametrize("answer", [True, np.True_])
def test_the_first_callback_that_stops_is_named_and_all_are_called(answer: object) -> None:
    calls: list[str] = []

    def calling(name: str, answer: object) -> NamedCallback:
        return NamedCallback(name, lambda metrics: (calls.append(name), answer)[1])

    callbacks = Callbacks([calling("a", None), calling("b", answer), calling("c", True)])
    callbacks({"iteration": 1})
    assert (callbacks.stopped_by, calls) == ("b", ["a", "b", "c"])
    with pytest.raises(CallbackFailed, match="the callback d returned a int"):
        Callbacks([calling("d", 1)])({})


def test_callables_are_given_in_python(folder: Path) -> None:
    result = flowrl.train("small.yaml", name="a", callbacks=[lambda metrics: metrics["env_steps"] >= 96])
    assert (result.env_steps, result.callback) == (96, "test_callables_are_given_in_python.<locals>.<lambda>")
    with pytest.raises(UsageError, match="no such luck"):
        flowrl.train("small.yaml", {"callbacks": ["own.py:fail"]}, name="b")
