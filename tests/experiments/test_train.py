"""Training as a user runs it: exact resume, signals, divergence, folders."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from flowrl.config.recipe import Recipe, apply
from flowrl.config.schema import load
from flowrl.contracts.errors import CheckpointError, TrainingDiverged, UsageError
from flowrl.experiments import train
from flowrl.experiments.build import Run
from flowrl.networks.normaliser import Normaliser
from flowrl.storage import checkpoint
from flowrl.training.loop import Training
from tests.equality import UNEQUAL, difference
from tests.other_process import Command

TASKS: dict[str, dict[str, Any]] = {
    "GridWorld": {"id": "flowrl/GridWorld-v0", "count": 8},
    "Pendulum": {"id": "Pendulum-v1", "count": 3},
    "Hopper": {"id": "Hopper-v5", "count": 3, "mode": "sync"},
    "Humanoid": {"id": "Humanoid-v5", "count": 2, "mode": "sync"},
    "Hopper async": {"id": "Hopper-v5", "count": 2, "mode": "async"},
    "Humanoid async": {"id": "Humanoid-v5", "count": 2, "mode": "async"},
    "Hopper batch": {"id": "Hopper-v5", "count": 3, "mode": "batch"},
    "Humanoid batch": {"id": "Humanoid-v5", "count": 2, "mode": "batch"},
}


def plan(env: dict[str, Any], iterations: int, *overrides: str, algorithm: str = "fpo++") -> train.TrainPlan:
    """A small run; 20 steps per rollout end in the middle of most episodes."""
    values = {
        "algorithm": algorithm,
        "seed": 3,
        "total_steps": iterations * 20 * env["count"],
        "env": env,
        "policy": {"hidden": [16]},
        "sampler": {"name": "euler", "steps": 3},
        "rollout": {"steps": 20},
        "learner": {"epochs": 2, "minibatches": 2, "critic": {"hidden": [16]}},
    }
    return train.TrainPlan(load(apply(Recipe("test", values), overrides)), "test")


def stopping_after(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGTERM to this process in the middle of iteration `iterations`, as a scheduler would send it."""
    iterate = Training.iterate

    def interrupted(self: Training) -> dict[str, float]:
        if self.iteration + 1 == iterations:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(self)

    monkeypatch.setattr(Training, "iterate", interrupted)


def resumed(folder: Path) -> train.TrainResult:
    return train.train(train.plan(None, [], folder), folder.parent, None, quiet=True)


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = {"seconds", "env_steps_per_s", "collect_s", "update_s"}
    return [{key: value for key, value in row.items() if key not in measured} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_is_the_uninterrupted_one(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, optimiser, statistics, random states, environments and metrics, to the last bit."""
    uninterrupted = train.train(plan(TASKS[task], 6), tmp_path, "uninterrupted", quiet=True)
    with monkeypatch.context() as patch:
        stopping_after(3, patch)
        stopped = train.train(plan(TASKS[task], 6), tmp_path, "halves", quiet=True)
    assert stopped.signal == signal.SIGTERM
    assert stopped.env_steps == uninterrupted.env_steps // 2
    kept = checkpoint.load(stopped.folder / "ckpt.pt")
    assert (kept["shards"][0]["episodes"]["lengths"] > 0).any()  # in the middle of an episode
    finished = resumed(stopped.folder)
    contents = [checkpoint.load(each.folder / "ckpt.pt") for each in (uninterrupted, finished)]
    assert not difference(*contents, UNEQUAL)
    assert metrics(uninterrupted.folder) == metrics(finished.folder)


def test_what_was_written_after_the_last_save_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed has metrics beyond its checkpoint, and an incomplete line."""
    env = TASKS["GridWorld"]
    uninterrupted = train.train(plan(env, 4), tmp_path, "uninterrupted", quiet=True)
    with monkeypatch.context() as patch:
        stopping_after(2, patch)
        killed = train.train(plan(env, 4), tmp_path, "killed", quiet=True)
    with (killed.folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "env_steps": 480}\n{"iteration": 4, "env_st')
    resumed(killed.folder)
    assert metrics(killed.folder) == metrics(uninterrupted.folder)


def test_a_run_may_go_on_for_longer(tmp_path: Path) -> None:
    env = TASKS["GridWorld"]
    uninterrupted = train.train(plan(env, 4), tmp_path, "uninterrupted", quiet=True)
    short = train.train(plan(env, 2), tmp_path, "short", quiet=True)
    longer = train.plan(None, ["total_steps=640"], short.folder)
    done = train.train(longer, tmp_path, None, quiet=True)
    assert done.env_steps == uninterrupted.env_steps == 640
    a, b = (checkpoint.load(each.folder / "ckpt.pt") for each in (uninterrupted, done))
    assert not difference(a["actor"], b["actor"], UNEQUAL)


def test_going_back_to_an_earlier_checkpoint_is_refused(tmp_path: Path) -> None:
    """`--resume RUN/best.pt` would overwrite the later ckpt.pt and cut the metrics; without a valid ckpt.pt it may."""
    early = train.train(plan(TASKS["GridWorld"], 1), tmp_path, "early", quiet=True).folder
    run = train.train(plan(TASKS["GridWorld"], 3), tmp_path, "run", quiet=True).folder
    (run / checkpoint.BEST).write_bytes((early / checkpoint.LATEST).read_bytes())
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(UsageError, match=r"160 env steps.*480"):
        train.plan(None, [], run / checkpoint.BEST)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    (run / checkpoint.LATEST).write_bytes(b"damaged")
    assert train.plan(None, [], run / checkpoint.BEST).folder == run


def test_a_run_is_called_after_its_recipe_or_the_environment_put_in_its_place() -> None:
    assert train.plan("pendulum.yaml", ["seed=1"], None).stem == "pendulum"
    assert train.plan("pendulum.yaml", ["env.id=flowrl/CheetahRun-v0"], None).stem == "cheetahrun"


@pytest.mark.parametrize("change", ["env.action_repeat=3", "env.options.max_episode_steps=30", "env.count=2"])
def test_a_run_goes_on_in_its_own_environment_alone(change: str, tmp_path: Path) -> None:
    """What would change it is refused before anything is written, also where nothing is left to train."""
    folder = train.train(plan(TASKS["Pendulum"], 1), tmp_path, "run", quiet=True).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    key = change.partition("=")[0]
    with pytest.raises(
        UsageError, match=rf"--set {change}: {key} is .* in the run .* Leave it out, or start a new run"
    ):
        train.plan(None, [change], folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert train.plan(None, ["env.threads=1", "total_steps=999"], folder).config.env.threads == 1


def test_the_checkpoint_is_blamed_only_for_what_is_wrong_with_it(tmp_path: Path) -> None:
    """Its own configuration does not fit its weights: changed by hand."""
    done = train.train(plan(TASKS["GridWorld"], 1), tmp_path, "run", quiet=True)
    content = checkpoint.load(done.folder / "ckpt.pt")
    content["config"]["policy"]["hidden"] = [8]
    checkpoint.save(done.folder / "ckpt.pt", content)
    before = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    with pytest.raises(
        CheckpointError, match=r"'actor.layers.0.weight' is .* \(16, 12\): its config and sizes describe"
    ):
        train.plan(None, ["total_steps=3200"], done.folder)
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == before


def test_two_runs_of_a_seed_are_the_same_and_of_two_seeds_are_not(tmp_path: Path) -> None:
    env = TASKS["GridWorld"]
    a, b, c = (
        checkpoint.load(train.train(plan(env, 2, f"seed={seed}"), tmp_path, name, quiet=True).folder / "ckpt.pt")
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert not difference(a, b, UNEQUAL)
    assert not torch.equal(a["actor"]["layers.0.weight"], c["actor"]["layers.0.weight"])


class Belt(gymnasium.Env[Any, Any]):
    """Seven steps an episode; the observation is the step. An iterator, which no checkpoint can hold, counts them,
    from the construction, from every reset, or from every third step on."""

    observation_space = spaces.Box(0, 7, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, opaque_from: str) -> None:
        self.opaque_from = opaque_from
        self.items: Any = iter(()) if opaque_from == "construction" else None
        self.at = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.items, self.at = None if self.opaque_from == "step" else iter(range(7)), 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> Any:
        self.at += 1
        if self.at == 3:
            self.items = iter(range(7))
        return np.full(1, self.at, dtype=np.float32), 1.0, self.at == 7, False, {}


gymnasium.register("flowrl-test/Belt-v0", Belt)


@pytest.mark.parametrize("opaque_from", ["construction", "reset", "step"])
def test_a_state_that_cannot_be_saved_is_reported_once_and_new_episodes_begin(
    opaque_from: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"id": "flowrl-test/Belt-v0", "count": 2, "options": {"opaque_from": opaque_from}}
    notice = "the state of flowrl-test/Belt-v0 cannot be saved (Belt.items is or holds a "
    with monkeypatch.context() as patch:
        stopping_after(2, patch)
        stopped = train.train(plan(env, 4), tmp_path, "run", quiet=True)
    assert capsys.readouterr().err.count(notice) == 1
    kept = checkpoint.load(stopped.folder / "ckpt.pt")
    assert kept["shards"][0]["env"]["envs"] is None
    assert kept["shards"][0]["episodes"]["lengths"].tolist() == [5, 5]  # 40 = 5 * 7 + 5 steps: in mid-episode
    run = Run(plan(env, 4).config)
    run.restore(kept)
    collector = run.training.collectors[0]
    assert collector.obs.tolist() == run.env.obs.tolist() == [[0], [0]]  # those of the new episodes
    assert collector.episodes.lengths.tolist() == collector.episodes.returns.tolist() == [0, 0]

    finished = resumed(stopped.folder)
    assert capsys.readouterr().err.count(notice) == 1
    assert [row["length_mean"] for row in metrics(finished.folder)] == [7] * 4  # not 5 + 7
    # 5 x 2 episodes had ended in the 40 steps; in 40 more since the resume, 5 x 2 again
    assert [row["episodes"] for row in metrics(finished.folder)] == [4, 10, 14, 20]
    after = checkpoint.load(finished.folder / "ckpt.pt")
    assert after["progress"]["episodes"] == 20 and after["progress"]["best_return"] == 7


def test_an_exact_run_has_no_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.train(plan(TASKS["Pendulum"], 1), tmp_path, "run", quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("sampler", ["heun", "dopri5"])
def test_an_update_does_not_depend_on_the_sampler(sampler: str) -> None:
    """Same weights, same rollout, same seed: the bits of the update are the same under any sampler."""
    from flowrl.training.rollout import Episodes, collect

    one = Run(plan(TASKS["GridWorld"], 1).config)
    other = Run(plan(TASKS["GridWorld"], 1, f"sampler={{name: {sampler}}}").config)
    episodes = Episodes.starting(one.env.count)
    rollout, _ = collect(one.training.collectors[0].act, one.env, one.env.reset(seed=0), episodes, 20)
    for run in (one, other):
        run.training.learner.update(rollout)
    assert not difference(one.training.learner.state_dict(), other.training.learner.state_dict(), UNEQUAL)


def test_a_diverging_run_stops_at_once_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowrl.training.learner import Learner

    good = train.train(plan(TASKS["GridWorld"], 2), tmp_path, "run", quiet=True)
    before = (good.folder / "ckpt.pt").read_bytes()
    update = Learner.update

    def poisoned(self: Learner, rollout: Any) -> dict[str, float]:
        rollout.rewards[2, 1] = float("inf")
        return update(self, rollout)

    monkeypatch.setattr(Learner, "update", poisoned)
    longer = train.plan(None, ["total_steps=6400"], good.folder)
    with pytest.raises(TrainingDiverged) as caught:
        train.train(longer, tmp_path, None, quiet=True)
    message = str(caught.value)
    assert "iteration 3" in message
    assert "advantages" in message
    assert f"The last good checkpoint is {good.folder / 'ckpt.pt'}, of {good.env_steps:,} env steps." in message
    assert train.train(train.plan(None, [], good.folder), tmp_path, None, quiet=True).metrics == good.metrics
    assert (good.folder / "ckpt.pt").read_bytes() == before
    dump = torch.load(good.folder / "diverged.pt", weights_only=True)
    assert not torch.isfinite(dump["advantages"]).all()


def test_a_taken_name_is_refused_and_a_default_name_is_not_taken_twice(tmp_path: Path) -> None:
    env = TASKS["GridWorld"]
    first = train.train(plan(env, 1), tmp_path, None, quiet=True)
    second = train.train(plan(env, 1), tmp_path, None, quiet=True)
    assert first.folder.name == "test-fpo++-seed3"
    assert second.folder.name == "test-fpo++-seed3-2"
    with pytest.raises(UsageError, match="--resume"):
        train.train(plan(env, 1), tmp_path, first.folder.name, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_prints_how_to_continue(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = Command(tmp_path, "train", "gridworld.yaml", "--name", "run", "--set", "total_steps=10_000_000")
    lines = tmp_path / "runs/run/metrics.jsonl"
    process.wait_for(lambda: lines.exists() and lines.stat().st_size > 0)
    os.kill(process.pid, number)
    ended, errors = process.end()
    assert ended == code, errors
    assert "flowrl train --resume runs/run" in errors
    assert "Traceback" not in errors
    content = checkpoint.load(tmp_path / "runs/run/ckpt.pt")
    assert content["progress"]["iteration"] == len(lines.read_text().splitlines())


def test_a_run_that_is_about_to_fail_is_warned_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["policy.hidden=[16]", "env.count=8", "rollout.steps=8", "learner.epochs=2", "total_steps=5120"]
    bad = train.plan("gridworld.yaml", [*small, "learner.learning_rate=0.1", "learner.clip=0.001"], None)
    result = train.train(bad, tmp_path, "bad", quiet=True)
    assert any("learner.learning_rate" in line for line in result.warnings)
    printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(printed) == len(result.warnings) == len(set(result.warnings))
    assert result.as_dict()["warnings"] == result.warnings
    healthy = train.train(train.plan("gridworld.yaml", small, None), tmp_path, "healthy", quiet=True)
    assert healthy.warnings == []


class Enormous(gymnasium.Env[Any, Any]):
    """Rewards of 1e30, whose squares no float32 can hold."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1e30 * float(action[0]), False, False, {}


def test_enormous_returns_are_named_as_the_cause_of_a_divergence(tmp_path: Path) -> None:
    gymnasium.register(id="test/Enormous-v0", entry_point=Enormous, max_episode_steps=20)
    overrides = ["env.id=test/Enormous-v0", "env.options={}", "env.count=4", "rollout.steps=8", "total_steps=640"]
    words = r"The returns, times learner.reward_scale, reach .*e\+\d\d: lower that key until"
    with pytest.raises(TrainingDiverged, match=words):
        train.train(train.plan("gridworld.yaml", overrides, None), tmp_path, "run", quiet=True)


@pytest.mark.parametrize("at", [1, 2])
def test_a_state_that_overflows_ends_the_training_as_diverged(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last iteration, whose save is that of the end, too."""
    update = Normaliser.update

    def overflowing(self: Normaliser, obs: torch.Tensor) -> None:
        update(self, obs)
        if self.count == at * 160:
            self.sum_of_squares[0] = torch.inf

    monkeypatch.setattr(Normaliser, "update", overflowing)
    planned = plan(TASKS["GridWorld"], 2, "checkpoint.every_s=0.001")
    with pytest.raises(TrainingDiverged, match=r"'normaliser\.sum_of_squares': it has numbers that are not finite"):
        train.train(planned, tmp_path, "run", quiet=True)
    assert checkpoint.load(tmp_path / "run" / "ckpt.pt")["progress"]["iteration"] == at - 1
