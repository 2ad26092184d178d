"""`flowrl envs FILE.py:Class`, with and without `--check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowrl import cli
from flowrl.envs import checking
from tests.envs import own_environment

FAULTS = """
import random

import gymnasium
import numpy as np
from gymnasium import spaces


class Good(gymnasium.Env):
    observation_space = spaces.Box(-100, 100, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.see(), {}

    def see(self):
        return np.array([self.x, self.t], np.float32)

    def step(self, action):
        self.x, self.t = self.x + float(action[0]) / 10, self.t + 1
        return self.see(), self.reward(), False, self.t >= self.limit(), {}

    def reward(self):
        return -abs(self.x)

    def limit(self):
        return 20


class Unseeded(Good):
    def see(self):
        return np.array([self.x + random.random(), self.t], np.float32)


class Outside(Good):
    count = 0

    def reward(self):
        Outside.count += 1
        return float(Outside.count % 1000)


class Flat(Good):
    def reward(self):
        return 1.0


class Endless(Good):
    def limit(self):
        return 10**9


class Short(Good):
    def limit(self):
        return 1


class Blind(Good):
    def see(self):
        return np.zeros(2, np.float32)


class Beyond(Good):
    observation_space = spaces.Box(-0.001, 0.001, (2,), np.float32)


class Late(Good):
    def see(self):
        return np.array([self.x if self.t < 6 else np.nan, self.t], np.float32)


class Leaving(Good):
    def step(self, action):
        raise SystemExit(0)


class Unmade(Good):
    def __init__(self, how="raise", render_mode=None):
        if how == "raise":
            raise RuntimeError("no robot connected")
        if how == "exit":
            raise SystemExit(0)
        low, high = {"nan": (np.nan, 1), "swapped": (1, -1)}[how]
        self.action_space = spaces.Box(np.array([low], np.float32), np.array([high], np.float32))


class Crashing(Good):
    def step(self, action):
        raise ValueError("the motor burned")
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "faults.py").write_text(FAULTS)
    own_environment.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "SECONDS", 0.0)
    paths = list(sys.path)
    yield
    sys.path[:] = paths


def checked(name: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = cli.run(["envs", name, "--check", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_environment_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = checked("faults.py:Good", capsys)
    assert code == 0 and document["passed"]
    verdicts = {finding["check"]: finding["verdict"] for finding in document["findings"]}
    speed = verdicts.pop("speed")
    assert verdicts == dict.fromkeys(["gymnasium", "episodes", "reward", "observation", "seeds", "resume"], "ok")
    assert speed in ("ok", "note")
    assert 0 < document["share"] < 1 and document["step_us"] > 0


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("Unseeded", "seeds", "equal seeds and actions give other numbers in the reset. Draw all random numbers"),
        ("Flat", "reward", "it is 1 in every step of random actions"),
        ("Short", "episodes", "ended after 1 steps on average"),
        ("Blind", "observation", "none of its numbers changes"),
        ("Beyond", "gymnasium", "Gymnasium's checker says"),
        ("Late", "steps", "faults.py:Late: the observation of environment 0"),
        ("Leaving", "steps", "environment 0 failed in step: SystemExit: 0 (faults.py:"),
        ("Crashing", "steps", "environment 0 failed in step: ValueError: the motor burned (faults.py:"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    name: str, check: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = checked(f"faults.py:{name}", capsys)
    assert code == 7 and not document["passed"]
    found = [each["text"] for each in document["findings"] if each["check"] == check and each["verdict"] == "wrong"]
    assert len(found) == 1 and said in found[0]


@pytest.mark.parametrize("how", ["raise", "exit", "nan", "swapped"])
def test_what_cannot_be_made_is_reported_as_by_train(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    codes = []
    messages = []
    for command in (
        ["envs", "faults.py:Unmade", "--check", "--set", f"options.how={how}"],
        ["train", "pendulum.yaml", "--set", "env.id=faults.py:Unmade", "--set", f"env.options.how={how}"],
    ):
        codes.append(cli.run(command))
        messages.append(capsys.readouterr().err.splitlines()[-1])
    assert codes == [5, 5] and messages[0] == messages[1]
    assert "faults.py:Unmade cannot be made: " in messages[0]


def test_state_outside_of_the_environment_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = checked("faults.py:Outside", capsys)
    assert "wrong" in {each["verdict"] for each in document["findings"] if each["check"] in ("seeds", "resume")}


def test_an_environment_without_end_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ENDLESS", checking.SEEDED)
    _, document = checked("faults.py:Endless", capsys)
    (found,) = [each for each in document["findings"] if each["check"] == "episodes"]
    assert found["verdict"] == "wrong" and "env.options.max_episode_steps" in found["text"]
    code, _ = checked("faults.py:Endless", capsys, "--set", "options.max_episode_steps=10")
    assert code == 0


def test_a_task_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = checked("my_task.py:Cart", capsys)
    assert code == 0
    assert "gymnasium" not in {finding["check"] for finding in document["findings"]}


def test_a_class_is_described_like_a_registered_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["envs", "my_env.py:Reach", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["id"] == "my_env.py:Reach" and facts["origin"] == "your code"
    assert facts["observation"]["shape"] == [2] and facts["action"]["low"] == [-1]
    assert facts["options"] == ["length", "max_episode_steps"]
    assert facts["exact_resume"] and not facts["native"]
    assert cli.run(["envs", "my_task.py:Cart"]) == 0
    out, err = capsys.readouterr()
    assert "natively, all together" in out
    assert err.splitlines()[-1] == "next: flowrl train pendulum.yaml --set env.id=my_task.py:Cart"


def test_an_id_that_an_import_registers_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["envs", "door/Reach-v0", "--import", "my_env.py"]) == 0
    assert "--import my_env.py" in capsys.readouterr().err.splitlines()[-1]


def test_a_check_needs_an_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["envs", "--check"]) == 2
    assert "flowrl envs my_env.py:MyEnv --check" in capsys.readouterr().err
