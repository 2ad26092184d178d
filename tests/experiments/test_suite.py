"""A suite of trials: finished trials are kept, unfinished ones continue, failures are reported."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flowrl import cli
from flowrl.cli.suite import seed_numbers, step_count
from flowrl.config import fingerprint, recipe
from flowrl.contracts.errors import UsageError
from flowrl.experiments.suite import scheduler
from flowrl.experiments.suite.eta import DurationEstimator
from flowrl.experiments.suite.plan import SuiteOptions, make_jobs, status
from flowrl.experiments.suite.result import TrialResult
from flowrl.experiments.suite.trial import (
    Failure,
    Trial,
    TrialRecord,
    find_trials,
    noise_label,
    read_record,
    write_record,
)
from flowrl.storage import lock
from flowrl.storage.lock import RunLock
from tests.other_process import Command

pytestmark = pytest.mark.slow

SMALL = """
total_steps: 64
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, clip: 0.3, critic: {hidden: [8]}}
fpo: {sampler: {name: euler, steps: 2}, learner: {clip: 0.2}}
"""
LONGER = SMALL.replace("total_steps: 64", "total_steps: 40960").replace("count: 4", "count: 64")
CONTROL = ["small.yaml", "--set", "env.id=flowrl/CheetahRun-v0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe small.yaml and a finished suite of it, with two algorithms and one seed."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(suite()) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` to work in."""
    subprocess.run(["cp", "-pr", f"{made}/.", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suite(*options: str) -> list[str]:
    usual = "suite small.yaml --algorithms fpo,ppo --seeds 1 --episodes 3 --jobs 2 --out out"
    return [*usual.split(), *options]


def asked(*overrides: str, **changes: Any) -> SuiteOptions:
    usual = {"recipes": ("small.yaml",), "algorithms": ("fpo", "ppo"), "seeds": (0,), "out": Path("out")}
    return SuiteOptions(**usual | {"episodes": 3, "overrides": overrides} | changes)


def run(*overrides: str, **changes: Any) -> tuple[scheduler.SuiteOutcome, list[str]]:
    lines: list[str] = []
    return scheduler.run(make_jobs(asked(*overrides, **changes)), 2, lines.append), lines


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_one_episode_is_an_evaluation(folder: Path) -> None:
    assert cli.run(suite("--episodes", "1", "--algorithms", "fpo")) == 0
    record = read_record(folder / "out/small/fpo/seed0/evaluation.json", TrialRecord)
    assert record is not None and record.evaluations["random"].return_ci95 == [None, None]


# --- planning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("2M", 2_000_000), ("500k", 500_000), ("1.5m", 1_500_000), ("65536", 65_536), ("1_000", 1000), ("2B", 2 * 10**9)],
)
def test_numbers_of_steps(text: str, number: int) -> None:
    assert step_count(text) == number


@pytest.mark.parametrize("text", ["", "many", "0", "-5", "1.5", "2MM", "1e6", "0.0001k"])
def test_other_text_is_not_a_number_of_steps(text: str) -> None:
    with pytest.raises(UsageError, match="--steps"):
        step_count(text)


def test_numbers_of_seeds() -> None:
    assert seed_numbers("3") == (0, 1, 2)
    assert seed_numbers("3-5") == (3, 4, 5)
    for wrong in ("0", "5-3", "a", "1,2"):
        with pytest.raises(UsageError, match="--seeds"):
            seed_numbers(wrong)


def test_trials_are_ordered_by_seed_so_that_an_interrupted_suite_is_balanced(folder: Path) -> None:
    (folder / "other.yaml").write_text(SMALL)
    jobs = make_jobs(asked(recipes=("small.yaml", "other.yaml"), seeds=(0, 1)))
    assert [job.trial for job in jobs] == [
        Trial(recipe, algorithm, seed)
        for seed in (0, 1)
        for recipe in ("small", "other")
        for algorithm in ("fpo", "ppo")
    ]


def test_a_folder_stands_for_the_recipes_in_it(folder: Path) -> None:
    (folder / "mine").mkdir()
    for name in ("b", "a"):
        (folder / f"mine/{name}.yaml").write_text(SMALL)
    jobs = make_jobs(asked(recipes=("small.yaml", "mine"), algorithms=("fpo",)))
    assert [job.trial.recipe for job in jobs] == ["small", "a", "b"]
    assert len(recipe.in_folder("paper")) == 10 and set(recipe.in_folder("paper/")) <= set(recipe.shipped_names())
    with pytest.raises(UsageError, match="'nothing' is not a file"):
        make_jobs(asked(recipes=("nothing",)))


def test_each_algorithm_has_its_own_settings_and_set_wins(folder: Path) -> None:
    """The recipe's clip overrides the preset's (0.05 of fpo, 0.2 of ppo), and its section's overrides both."""
    assert [job.config["learner"]["clip"] for job in make_jobs(asked())] == [0.2, 0.3]
    assert [job.config["learner"]["clip"] for job in make_jobs(asked("learner.clip=0.4"))] == [0.4, 0.4]
    assert [job.config["sampler"]["steps"] for job in make_jobs(asked())] == [2, None]
    assert [job.config["total_steps"] for job in make_jobs(asked(steps=128))] == [128, 128]
    assert all("fpo" not in job.config for job in make_jobs(asked()))


def test_a_trial_also_simulates_on_one_thread(folder: Path) -> None:
    env = "id: flowrl/GridWorld-v0, count: 4"
    sets = ["env.count=4", "env.threads=3", f"env={{{env}}}", f"env={{{env}, threads: 2}}"]
    configs = [make_jobs(asked("env.count=4", each))[0].config for each in sets]
    assert [config["env"]["threads"] for config in configs] == [1, 3, 1, 2]
    assert fingerprint.differences(*configs[:2]) == []
    assert fingerprint.digest(configs[0]) == fingerprint.digest(configs[1])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["suite", "small.yaml", "--algorithms", "fpo,pop"], ["--algorithms pop:", "ppo"]),
        (["suite", "small.yaml", "--steps", "lots"], ["lots", "2M"]),
        (["suite", "small.yaml", "--seeds", "x"], ["--seeds", "3-5"]),
        (["suite", "small.yaml", "--set", "seed=4"], ["seed", "--seeds"]),
        (["suite", "small.yaml", "--set", "algorithm=ppo"], ["--algorithms"]),
        (["suite", "small.yaml", "--steps", "2k", "--set", "total_steps=3"], ["--steps"]),
        (["suite", "small.yaml", "--set", "learner.clpi=1"], ["clpi", "clip"]),
        (["suite", "small.yaml", "--set", "sampler.stepz=3"], ["stepz", "steps"]),
        (["suite", "small.yaml", "--set", "env.options.profil=dmc"], ["GridWorld-v0", "'profil'"]),
        (["suite", *CONTROL, "--set", "env.options.profil=dmc"], ["'profil'", "Did you mean 'profile'"]),
        (["suite", *CONTROL, "--set", "env.options.profile=dcm"], ["dcm", "dmc"]),
        (["suite", "small.yaml", "--set", "env.id=flowrl/GridWord-v0"], ["GridWord", "GridWorld"]),
        (["suite", "smal.yaml"], ["smal.yaml"]),
        (["suite", "small.yaml", "deep/small.yaml"], ["deep/small.yaml", "another name"]),
        (["suite"], ["RECIPE"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_errors_are_reported_before_anything_starts(
    arguments: list[str], names: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "deep").mkdir()
    (folder / "deep/small.yaml").write_text(SMALL)
    assert cli.run([*arguments, *(["--out", "new"] if len(arguments) > 1 else [])]) == 2
    errors = capsys.readouterr().err
    assert all(name in errors for name in names), errors
    assert not (folder / "new").exists()


# --- finished trials --------------------------------------------------------------------------------


def test_a_finished_trial_holds_a_run_and_its_record(folder: Path) -> None:
    for algorithm, actions in (("fpo", ["random", "zero"]), ("ppo", ["sampled", "mean"])):
        run_folder = folder / "out/small" / algorithm / "seed0"
        assert {"ckpt.pt", "metrics.jsonl", "config.yaml", "evaluation.json"} <= {
            path.name for path in run_folder.iterdir()
        }
        record = read_record(run_folder / "evaluation.json", TrialRecord)
        assert record is not None
        assert (record.algorithm, record.seed, record.recipe) == (algorithm, 0, "small.yaml")
        assert (record.env_steps, record.episodes, record.evaluation_seed) == (64, 3, 10_000)
        assert record.env_steps_per_s == pytest.approx(64 / record.seconds)
        assert record.machine["threads"] == 1
        assert record.digest == fingerprint.digest(record.config)
        assert [noise_label(mode, record.config) for mode in record.evaluations] == actions


def test_repeating_a_finished_suite_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(folder / "out")
    assert cli.run(suite("--json")) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert {key: document[key] for key in ("kept", "finished", "failed")} == {"kept": 2, "finished": 0, "failed": 0}
    assert all(set(row["returns"]) == {"random", "zero"} for row in document["cells"])
    assert "flowrl compare out" in printed.err
    assert stamps(folder / "out") == before


def test_other_settings_are_refused_and_no_file_changes(folder: Path) -> None:
    before = stamps(folder / "out")
    with pytest.raises(UsageError, match=r"seed0 was made with.*learner.gamma is 0.99 there, 0.9 is asked for"):
        run("learner.gamma=0.9")
    with pytest.raises(UsageError, match="total_steps is 64 there, 128 is asked for"):
        run(steps=128)
    assert stamps(folder / "out") == before


def test_settings_without_influence_on_learning_may_differ(folder: Path) -> None:
    outcome, _ = run("threads=2", "checkpoint.every_s=1")
    assert [result.state for result in outcome.results] == ["kept", "kept"]


def test_only_the_evaluation_is_repeated(folder: Path) -> None:
    """The record of one trial is torn, and that of the other has too few episodes."""
    fpo, ppo = (folder / f"out/small/{name}/seed0" for name in ("fpo", "ppo"))
    complete = (fpo / "evaluation.json").read_text()
    (fpo / "evaluation.json").write_text(complete[: len(complete) // 2])
    record = read_record(ppo / "evaluation.json", TrialRecord)
    assert record is not None
    write_record(ppo / "evaluation.json", record.model_copy(update={"episodes": 2}))
    trained = {path: stamp for path, stamp in stamps(folder / "out").items() if path.name == "ckpt.pt"}
    outcome, lines = run()
    assert [result.state for result in outcome.results] == ["finished", "finished"]
    assert any("is incomplete" in line for line in lines)
    assert any("2 episodes, not 3" in line for line in lines)
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    again = read_record(fpo / "evaluation.json", TrialRecord)
    assert again is not None
    assert (
        again.evaluations["zero"].return_mean
        == TrialRecord.model_validate_json(complete).evaluations["zero"].return_mean
    )


def test_a_record_without_its_checkpoint_is_kept(folder: Path) -> None:
    (folder / "out/small/fpo/seed0/ckpt.pt").unlink()
    assert status(make_jobs(asked())[0]).todo == "nothing"
    with pytest.raises(UsageError, match=r"3 episodes, not 5.*ckpt\.pt no longer exists"):
        run(episodes=5)


def test_a_trial_locked_by_another_process_is_waited_for(folder: Path) -> None:
    """That process finishes it meanwhile."""
    job = make_jobs(asked(algorithms=("fpo",)))[0]
    record = job.folder / "evaluation.json"
    complete = record.read_text()
    record.unlink()
    lines: list[str] = []
    outcomes: list[scheduler.SuiteOutcome] = []
    with job.log.open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        worker = threading.Thread(target=lambda: outcomes.append(scheduler.run([job], 1, lines.append)))
        worker.start()
        while not any("locked by another process" in line for line in lines):
            assert worker.is_alive()
            time.sleep(0.01)
        assert outcomes == []
        record.write_text(complete)
    worker.join(30)
    assert [result.state for result in outcomes[0].results] == ["kept"]


def test_a_trial_that_somebody_trains_by_hand_is_waited_for(folder: Path) -> None:
    """`flowrl train --resume` locks the folder of the run, not the log of the suite."""
    job = make_jobs(asked(algorithms=("fpo",)))[0]
    (job.folder / "evaluation.json").unlink()
    lines: list[str] = []
    outcomes: list[scheduler.SuiteOutcome] = []
    by_hand = RunLock(job.folder)
    worker = threading.Thread(target=lambda: outcomes.append(scheduler.run([job], 1, lines.append)))
    worker.start()
    while not any("locked by another process" in line for line in lines):
        assert worker.is_alive()
        time.sleep(0.01)
    assert outcomes == []
    by_hand.release()
    worker.join(60)
    assert [result.state for result in outcomes[0].results] == ["finished"]


# --- failures ---------------------------------------------------------------------------------------


PRINTING = """print("hello from a third-party sampler")
class Mine:
    def __init__(self, steps: int = 2):
        self.steps = steps

    def __call__(self, velocity, x, t0, t1):
        for step in range(self.steps):
            x = x + (t1 - t0) / self.steps * velocity(x, t0 + step * (t1 - t0) / self.steps)
        return x
"""


def test_what_a_sampler_prints_is_not_in_the_json(folder: Path) -> None:
    """The suite can still read its evaluations."""
    (folder / "printing.py").write_text(PRINTING)
    options = suite("--set", "fpo.sampler.name=printing.py:Mine", "--json")
    options[options.index("out")] = "printed"
    options[options.index("fpo,ppo")] = "fpo"
    code, out, errors = Command(folder, *options, sharing=True).finish()
    assert code == 0, errors
    assert json.loads(out)["finished"] == 1
    assert "hello from a third-party sampler" in errors


def test_a_diverged_trial_is_recorded_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sure = SMALL.replace("learner: {clip: 0.2}", "learner: {learning_rate: 1000, max_grad_norm: null}")
    (folder / "small.yaml").write_text(sure.replace("total_steps: 64", "total_steps: 640"))
    arguments = suite("--json", "--out", "new")
    assert cli.run(arguments) == 3
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [row["state"] for row in document["cells"]] == ["diverged", "finished"], printed.err
    assert "training stopped in iteration" in document["cells"][0]["message"]
    failure = read_record(folder / "new/small/fpo/seed0/failure.json", Failure)
    assert failure is not None
    assert (failure.stage, failure.exit_code) == ("train", 3)

    before = stamps(folder / "new")  # it would diverge again: its result is final
    assert cli.run(arguments) == 3
    assert "diverged before" in capsys.readouterr().err
    assert stamps(folder / "new") == before


def test_a_failed_trial_is_run_again(folder: Path) -> None:
    """Its damaged checkpoint gives exit code 4; without a checkpoint the trial starts from the beginning."""
    run_folder = folder / "out/small/fpo/seed0"
    (run_folder / "evaluation.json").unlink()
    (run_folder / "ckpt.pt").write_bytes(b"PK\x03\x04 nothing of worth")
    outcome, lines = run()
    assert outcome.exit_code == 4
    assert [result.state for result in outcome.results] == ["failed", "kept"]
    assert any("cannot be used" in line for line in lines)
    (run_folder / "ckpt.pt").unlink()
    (run_folder / "metrics.jsonl").write_text('{"iteration": 1}\n{"itera')
    assert status(make_jobs(asked())[0]).todo == "train"
    outcome, _ = run()
    assert outcome.exit_code == 0
    assert not (run_folder / "failure.json").exists()
    assert iterations(run_folder) == [1, 2]


# --- interruptions ----------------------------------------------------------------------------------


def begun(folder: Path, algorithms: str) -> Command:
    """A suite in a process of its own, once all of its trials are training."""
    (folder / "small.yaml").write_text(LONGER)
    command = Command(folder, *suite("--out", "new", "--algorithms", algorithms), sharing=True)
    files = [folder / f"new/small/{name}/seed0/metrics.jsonl" for name in algorithms.split(",")]
    command.wait_for(lambda: all(file.exists() and file.stat().st_size for file in files))
    return command


def iterations(run: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]


@pytest.mark.timeout(300)
def test_ctrl_c_saves_and_the_same_command_continues(folder: Path) -> None:
    process = begun(folder, "fpo,ppo")
    os.kill(process.pid, signal.SIGINT)
    code, errors = process.end(120)
    assert code == 130, errors
    again = errors.splitlines()[-1]
    assert "flowrl suite small.yaml --algorithms fpo,ppo --seeds 1" in again
    assert "Traceback" not in errors
    assert all((folder / f"new/small/{name}/seed0/ckpt.pt").is_file() for name in ("fpo", "ppo"))

    outcome, lines = run(algorithms=("fpo",), out=Path("new"))
    assert "1 to continue" in lines[0]
    assert outcome.exit_code == 0
    assert iterations(folder / "new/small/fpo/seed0") == list(range(1, 81))  # 40960 steps of 64 x 8 an iteration


def test_a_trial_that_was_never_started_is_known_to_be_missing(folder: Path) -> None:
    def quit_at_start(line: str) -> None:
        if "started" in line:
            raise InterruptedError

    jobs = make_jobs(asked(out=Path("new"), algorithms=("fpo", "ppo")))
    with pytest.raises(InterruptedError):
        scheduler.run(jobs, 1, quit_at_start)
    assert [str(trial) for trial, _ in find_trials(Path("new"))] == [str(job.trial) for job in jobs]


@pytest.mark.timeout(300)
def test_after_kill_9_the_next_suite_waits_for_the_orphaned_processes(folder: Path) -> None:
    process = begun(folder, "fpo")
    os.kill(process.pid, signal.SIGKILL)
    process.end()
    asked_again = {"algorithms": ("fpo",), "out": Path("new")}
    assert lock.lock_file(make_jobs(asked(**asked_again))[0].log) is None  # the orphan has it
    outcome, lines = run(**asked_again)
    assert outcome.exit_code == 0
    assert any("locked by another process" in line for line in lines)
    assert iterations(folder / "new/small/fpo/seed0") == list(range(1, 81))


# --- how long it takes ------------------------------------------------------------------------------


def test_the_time_left_is_estimated_from_similar_trials() -> None:
    durations = DurationEstimator()
    fpo, ppo, other = Trial("a", "fpo", 1), Trial("a", "ppo", 1), Trial("b", "fpo", 1)
    assert durations.remaining([fpo], [], 1) is None
    durations.learn(Trial("a", "fpo", 0), 100)
    assert [durations.estimate(trial) for trial in (fpo, ppo, other)] == [100, 100, 100]
    durations.learn(Trial("a", "ppo", 0), 40)
    assert [durations.estimate(trial) for trial in (fpo, ppo, other)] == [100, 40, 70]
    # 100 + 70 are waiting, ppo has done 10 of its 40: 200 s of work for two processes
    assert durations.remaining([fpo, other], [(ppo, 10.0)], 2) == 100
    assert durations.remaining([], [(fpo, 20.0), (ppo, 30.0)], 2) == 80  # the longer one decides
    assert durations.remaining([], [(fpo, 200.0)], 1) == 0


def test_exit_codes() -> None:
    failure = Failure(flowrl="0", stage="train", exit_code=5, message="", digest="", config={})
    diverged = failure.model_copy(update={"exit_code": 3})
    results = [TrialResult(Trial("a", "fpo", 0), "finished")]
    assert scheduler.SuiteOutcome(results, None).exit_code == 0
    results.append(TrialResult(Trial("a", "fpo", 1), "failed", failure=failure))
    assert scheduler.SuiteOutcome(results, None).exit_code == 5
    results.append(TrialResult(Trial("a", "fpo", 2), "diverged", failure=diverged))
    assert scheduler.SuiteOutcome(results, None).exit_code == 3
    assert scheduler.SuiteOutcome(results, signal.SIGINT).exit_code == 130


def test_a_record_is_written_completely_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the file is renamed, the old record stays and no part of the new one is left."""
    path = folder / "out/small/fpo/seed0/evaluation.json"
    before = path.read_bytes()
    record = TrialRecord.model_validate_json(before)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="No space left"):
        write_record(path, record)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*.tmp"))
