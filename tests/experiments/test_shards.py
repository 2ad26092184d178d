"""A run in shards: the same bits in one process as in several, whatever happens to them on the way.

Every comparison is of all entries of ckpt.pt but the measured seconds and the length of the metrics file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowrl.config.fingerprint import digest, experiment_settings
from flowrl.config.schema import load
from flowrl.contracts.errors import UsageError
from flowrl.envs.saved_state import of_run
from flowrl.experiments import ranks, train
from flowrl.storage import checkpoint
from tests.equality import UNEQUAL, difference
from tests.other_process import Command, descendants
from tests.small_recipe import small

ITERATION = 32  # env steps
DRAWING = '''
"""Draws from every global generator, and fails in one process."""
import os, random
import gymnasium, numpy as np, torch
from gymnasium import spaces


class Drawing(gymnasium.Env):
    observation_space = spaces.Box(-9, 9, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    steps = 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 7 and os.environ.get("BREAKS", "none") == os.environ.get("RANK"):
            raise RuntimeError("the arm fell off")
        return self.seen(), float(action[0]), False, self.steps == 11, {}

    def seen(self):
        drawn = [random.gauss(0, 1), np.random.randn(), torch.randn(1).item()]
        return np.array(drawn, np.float32).clip(-9, 9)
'''


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(small(6 * ITERATION) + "shards: 4\n")
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def trained(name: str, *words: str, recipe: str = "small.yaml") -> dict[str, Any]:
    """The content of the checkpoint of a training in this process."""
    planned = train.plan(recipe, list(words), None)
    return checkpoint.load(train.train(planned, Path("runs"), name, quiet=True).folder / "ckpt.pt")


def saved(name: str) -> dict[str, Any]:
    return checkpoint.load(Path("runs", name, "ckpt.pt"))


def command(*words: str, variables: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    """`flowrl train words` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flowrl", "train", *words],
        env=os.environ | dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def iterations(name: str) -> int:
    path = Path("runs", name, "metrics.jsonl")
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_shards_that_are_collected_alike_learn_alike_after_an_interruption() -> None:
    """One process holds all four; a resumed run is the uninterrupted one."""
    straight = trained("straight")
    trained("halved", f"total_steps={3 * ITERATION}", "checkpoint.best_over=0")
    train.train(train.plan(None, [f"total_steps={6 * ITERATION}"], Path("runs/halved")), Path("runs"), None, quiet=True)
    halved = saved("halved")
    assert len(straight["shards"]) == 4
    for content in (straight, halved):
        del content["config"], content["progress"]
    assert not difference(straight, halved, UNEQUAL)


def test_each_shard_has_environments_and_random_numbers_of_its_own() -> None:
    shards = trained("run", f"total_steps={ITERATION}")["shards"]
    assert [shard["env"]["count"] for shard in shards] == [1, 1, 1, 1]
    for place in (lambda shard: shard["generator"], lambda shard: shard["random"]["generators"]["noise"]):
        assert len({bytes(place(shard).tolist()) for shard in shards}) == 4
    assert len({shard["random"]["python"] for shard in shards}) == 4
    merged = of_run({"shards": shards})
    assert merged["count"] == 4 and merged["obs"].shape == (4, shards[0]["env"]["obs"].shape[1])


def test_one_shard_is_what_there_was_before_there_were_shards() -> None:
    """Its seeds are the first words of the run's own, its fingerprint that of a recipe without the key."""
    alone = load_recipe("shards: 1")
    assert "shards" not in experiment_settings(alone.model_dump(mode="json"))
    without = {key: value for key, value in alone.model_dump(mode="json").items() if key != "shards"}
    assert digest(without) == digest(alone.model_dump(mode="json"))
    assert digest(load_recipe("shards: 2").model_dump(mode="json")) != digest(without)


def load_recipe(line: str) -> Any:
    from flowrl.config import recipe

    Path("recipe.yaml").write_text(small(ITERATION) + f"{line}\n")
    return load(recipe.read("recipe.yaml"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shards: 3", "shards: expected a power of two, such as 2 or 4, got 3"),
        ("shards: 8", "env.count 4 cannot be divided into 8 shards of equal size. Set env.count: 8"),
        ("shards: 0", "shards"),
    ],
)
def test_wrong_numbers_of_shards_are_refused_with_their_key(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(line)
    assert said in str(caught.value)


ENDLESS = ("--set", "total_steps=10_000_000")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def forked(folder: Path, count: int, *words: str, **variables: str) -> list[Command]:
    """`flowrl train words` in so many processes, as torchrun would have started them; the runs are in `folder`/runs."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **variables}
    found = []
    for rank in range(count):
        (own := folder / f"rank{rank}").mkdir(exist_ok=True)
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        options = ["train", *words, "--out", str(folder / "runs")] if "--resume" not in words else ["train", *words]
        found.append(Command(own, *options, before=lambda place=place: os.environ.update(shared | place)))
    return found


def test_two_and_four_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    """The first one alone writes and prints; a fourth of the run goes on in one process, then in two."""
    alone = trained("alone")
    recipe = str(tmp_path / "small.yaml")
    for count in (2, 4):
        results = [each.finish() for each in forked(tmp_path, count, recipe, "--name", f"by{count}")]
        assert [result.code for result in results] == [0] * count, results
        assert [bool(result.out or result.err) for result in results] == [True] + [False] * (count - 1)
        assert not difference(alone, saved(f"by{count}"), UNEQUAL)
    longer = f"total_steps={9 * ITERATION}"
    shutil.copytree("runs/by4", "runs/resumed")
    train.train(train.plan(None, [longer], Path("runs/resumed")), Path("runs"), None, quiet=True)
    results = [each.finish() for each in forked(tmp_path, 2, "--resume", str(tmp_path / "runs/by4"), "--set", longer)]
    assert [result.code for result in results] == [0, 0], results
    assert not difference(saved("resumed"), saved("by4"), UNEQUAL)


def test_a_signal_to_any_process_stops_all_at_one_iteration(tmp_path: Path) -> None:
    first, second = forked(
        tmp_path, 2, str(tmp_path / "small.yaml"), "--name", "run", "--set", "total_steps=10_000_000"
    )
    first.wait_for(lambda: iterations("run") >= 2)
    os.kill(second.pid, signal.SIGTERM)
    (code, message), (other, silence) = first.end(), second.end()
    assert (code, other, silence) == (143, 143, "")
    assert "stopped by SIGTERM; saved" in message
    assert saved("run")["progress"]["iteration"] == iterations("run")


def test_a_process_that_is_killed_ends_the_others_quietly(tmp_path: Path) -> None:
    first, second = forked(
        tmp_path, 2, str(tmp_path / "small.yaml"), "--name", "run", "--set", "total_steps=10_000_000"
    )
    first.wait_for(lambda: iterations("run") >= 1)
    os.kill(second.pid, signal.SIGKILL)
    code, message = first.end()
    assert code == 5 and "the connection to another process of this training was lost (" in message
    assert "[/" not in message and message.endswith(f"type: flowrl train --resume {tmp_path}/runs/run\n")
    assert "Traceback" not in message
    second.end()


def drawing(folder: Path) -> Path:
    """A recipe with the environment `DRAWING`."""
    (folder / "drawing.py").write_text(DRAWING)
    text = small(3 * ITERATION).replace("flowrl/GridWorld-v0", f"{folder}/drawing.py:Drawing")
    (folder / "drawing.yaml").write_text(text + "shards: 4\n")
    return folder / "drawing.yaml"


@pytest.mark.parametrize("count", [2, 4])
def test_an_environment_with_global_random_numbers_is_exact_too(count: int, tmp_path: Path) -> None:
    recipe = drawing(tmp_path)
    alone = Command(tmp_path, "train", str(recipe), "--name", "alone").finish()
    results = [each.finish() for each in forked(tmp_path, count, str(recipe), "--name", "run")]
    assert [alone.code, *(result.code for result in results)] == [0] * (count + 1), results
    assert not difference(saved("alone"), saved("run"), UNEQUAL)


def test_the_first_process_says_why_another_one_failed(tmp_path: Path) -> None:
    recipe = drawing(tmp_path)
    first, second = (each.finish() for each in forked(tmp_path, 2, str(recipe), "--name", "run", BREAKS="1"))
    assert (first.code, second.code) == (5, 5)
    assert "rank 1 of 2 processes: " in first.err and "the arm fell off" in first.err
    assert "Traceback" not in first.err and second.err == ""


def test_more_processes_than_shards_are_refused_once(tmp_path: Path) -> None:
    words = (str(tmp_path / "small.yaml"), "--set", "shards=1")
    first, second = (each.finish() for each in forked(tmp_path, 2, *words))
    assert (first.code, second.code, second.err) == (2, 2, "")
    assert "WORLD_SIZE=2" in first.err and "--set shards=2" in first.err


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_JOB_ID": "1041", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"},
            (3, 4, 1, "a", 7),
        ),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}, (1, 2, 1, "127.0.0.1", 29500)),
        (SRUN | {"SLURM_STEP_NODELIST": "node[07-09,12]"}, (2, 4, 0, "node07", 21041)),
        (SRUN | {"SLURM_STEP_NODELIST": "alpha,beta"}, (2, 4, 0, "alpha", 21041)),
        ({"SLURM_JOB_ID": "1041", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # the batch script itself
    ],
)
def test_the_place_of_a_process_is_read_from_its_variables(variables: dict[str, str], expected: Any) -> None:
    rank = ranks.rank_of(variables)
    found = None if rank is None else (rank.number, rank.processes, rank.local, rank.address, rank.port)
    assert found == expected


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "x", "WORLD_SIZE": "4"}, "RANK is 'x'"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "expected 0 to 3"),
        ({"RANK": "0", "WORLD_SIZE": "6"}, "WORLD_SIZE=6: the number of processes must be a power of two"),
    ],
)
def test_wrong_places_are_refused(variables: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ranks.rank_of(variables)


def test_the_trials_of_a_suite_are_processes_of_their_own() -> None:
    assert ranks.rank_of(ranks.without_rank({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "1"})) is None


# --- flowrl train --processes, in real processes


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_processes_start_again_and_the_run_is_the_uninterrupted_one() -> None:
    """Ranks 1 and 0 are killed in turn; then the launcher's exit code is that of a training."""
    steps = f"total_steps={90 * ITERATION}"
    words = ("small.yaml", "--set", steps, "--set", "checkpoint.every_s=0", "--name", "run", "--processes", "2")
    launched = command(*words, "--max-restarts", "2")
    for rank, reached in ((1, 15), (0, 45)):
        wait_until(lambda reached=reached: iterations("run") >= reached, launched)
        os.kill(descendants(launched.pid)[rank], signal.SIGKILL)
    code, _, err = finished(launched)
    assert code == 0, err
    assert "rank 1 of 2 processes was ended by SIGKILL" in err and "(restart 2 of 2)" in err
    trained("alone", steps, "checkpoint.every_s=0")
    assert not difference(saved("alone"), saved("run"), UNEQUAL)


@pytest.mark.slow
@pytest.mark.long
def test_without_restarts_the_reason_is_said_and_the_code_is_5() -> None:
    launched = command("small.yaml", "--set", "total_steps=10_000_000", "--name", "run", "--processes", "2")
    wait_until(lambda: iterations("run") >= 2, launched)
    os.kill(descendants(launched.pid)[0], signal.SIGKILL)
    code, _, err = finished(launched)
    assert code == 5 and "rank 0 of 2 processes was ended by SIGKILL" in err
    assert "train --resume runs/run --processes 2" in err and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_saves_once(number: signal.Signals, code: int) -> None:
    launched = command("small.yaml", "--set", "total_steps=10_000_000", "--name", "run", "--processes", "2", "--json")
    wait_until(lambda: iterations("run") >= 2, launched)
    launched.send_signal(number)
    ended, out, err = finished(launched)
    assert ended == code and json.loads(out)["stopped_by"] == number.name
    assert err.count("saved runs/run/ckpt.pt") == 1


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    import time

    limit = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


TASKS = {
    "cheetah": ["cheetah.yaml", "env.count=8", "rollout.steps=16", "learner.minibatches=2"],
    "humanoid": ["humanoid.yaml", "env.count=8", "rollout.steps=8", "learner.minibatches=2"],
    "ppo": ["cheetah.yaml", "env.count=8", "rollout.steps=16", "algorithm=ppo", "learner.minibatches=2"],
    "hopper": ["hopper.yaml", "env.mode=sync", "env.count=8", "rollout.steps=16", "learner.minibatches=2"],
    "minibatch": ["gridworld.yaml", "env.count=8", "learner.normalise_advantages=minibatch", "learner.microbatch=16"],
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_exact_on_any_number_of_processes(task: str, tmp_path: Path) -> None:
    """Two iterations in one, two and four processes; and one of four that continues the other's in two."""
    recipe, *settings = TASKS[task]
    steps = 2 * 8 * (32 if "rollout.steps" not in " ".join(settings) else 16)
    settings += ["shards=4", f"total_steps={steps}", "trackers=[]"]
    alone = trained("alone", *settings, recipe=recipe)
    words = [word for setting in settings for word in ("--set", setting)]
    for count in (2, 4):
        results = [each.finish(100) for each in forked(tmp_path, count, recipe, *words, "--name", f"by{count}")]
        assert [result.code for result in results] == [0] * count, results
        assert not difference(alone, saved(f"by{count}"), UNEQUAL)
