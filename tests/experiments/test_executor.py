"""The seam between a suite and the engines: order, attachment and failure, with a real process for every job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import flowrl
from flowrl import cli
from flowrl.contracts.errors import UsageError
from flowrl.contracts.installing import reinstall
from flowrl.experiments import api
from flowrl.experiments.suite import engines, executor, remote, scheduler
from flowrl.experiments.suite.cluster import MOST_LOST, ClusterExecutor, Lost, note_of
from flowrl.experiments.suite.executor import RetryTimes
from flowrl.experiments.suite.plan import Job, SuiteOptions, make_jobs
from flowrl.experiments.suite.remote import RemoteTrial, TrialMaker, packed
from flowrl.experiments.suite.slurm import SlurmOptions
from flowrl.storage import lock
from tests.other_process import Fork
from tests.small_recipe import small

Work = Callable[[RemoteTrial, int], dict[str, Any]]
DONE = {"state": "finished", "record": None, "failure": None, "stopped": False}


@dataclass
class ForkedJob:
    """A job of `ForkingEngine`: a process whose result is in a file."""

    id: str
    result: Path
    is_child: bool

    def outcome(self) -> dict[str, Any] | Lost | None:
        if self.result.exists():
            return json.loads(self.result.read_text())
        return None if self._runs() else Lost("its process was killed")

    def _runs(self) -> bool:
        if self.is_child:
            return os.waitpid(int(self.id), os.WNOHANG)[0] == 0
        return Path(f"/proc/{self.id}/cmdline").exists()

    def cancel(self, *, kill: bool) -> None:
        os.kill(int(self.id), signal.SIGKILL if kill else signal.SIGTERM)


class ForkingEngine:
    """An engine that forks a process for every job, which does `work` with the trial and the number of the attempt."""

    name = "forks"

    def __init__(self, folder: Path, work: Work, keeps_jobs: bool = False) -> None:
        self.keeps_jobs = keeps_jobs
        self.folder = folder
        self.submitted: list[str] = []  # trials
        self._work = work
        folder.mkdir(exist_ok=True)

    def submit(self, trial: RemoteTrial) -> ForkedJob:
        self.submitted.append(str(trial.job.trial))
        attempt = self.submitted.count(str(trial.job.trial))
        pid = os.fork()
        if pid == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):  # a job that outlives a failed test holds nothing of it
                os.dup2(null, number)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(60)
            (self.folder / f"{os.getpid()}.began").write_text(f"{time.monotonic()}")
            part = self.folder / f"{os.getpid()}.part"
            part.write_text(json.dumps(self._work(trial, attempt)))
            part.rename(self.folder / f"{os.getpid()}.json")
            os._exit(0)
        return ForkedJob(str(pid), self.folder / f"{pid}.json", is_child=True)

    def find(self, job_id: str) -> ForkedJob | None:
        found = ForkedJob(job_id, self.folder / f"{job_id}.json", is_child=False)
        return found if found.outcome() is None else None

    def farewell(self, jobs: Sequence[str]) -> str:
        return f"{len(jobs)} forks are left running."


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flowrl.experiments.suite.cluster.LOOK_S", 0.02)
    monkeypatch.setattr(executor, "SHORTEST_RETRY_S", 0.05)
    monkeypatch.setattr(executor, "LOOKS_PER_S", 1000)
    Path("small.yaml").write_text(small(64))


def jobs(number: int) -> list[Job]:
    return make_jobs(SuiteOptions(("small.yaml",), ("fpo",), tuple(range(number)), Path("out"), episodes=3))


def run(engine: ForkingEngine, number: int, parallel: int = 2) -> tuple[scheduler.SuiteOutcome, list[str]]:
    said: list[str] = []
    return scheduler.run(jobs(number), parallel, said.append, executor=ClusterExecutor(engine, parallel)), said


# --- order, attachment, failure ---------------------------------------------------------------------


def test_trials_are_submitted_in_order_as_many_at_a_time_as_asked_for(tmp_path: Path) -> None:
    running = tmp_path / "running"
    running.mkdir()

    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        mark = running / trial.job.folder.name
        mark.touch()
        time.sleep(0.1)
        most = len(list(running.iterdir()))
        mark.unlink()
        assert most <= 2
        return DONE

    engine = ForkingEngine(tmp_path / "jobs", work)
    outcome, said = run(engine, 5)
    assert engine.submitted == [f"small fpo seed {seed}" for seed in range(5)]
    assert [result.state for result in outcome.results] == ["finished"] * 5
    assert said[1].startswith("[0/5] small fpo seed 0: submitted to forks as job ")
    assert not list(Path("out").rglob("seed*.job"))


def test_a_trial_whose_worker_was_killed_goes_to_another_one(tmp_path: Path) -> None:
    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        if attempt == 1 and trial.job.trial.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt == 1 and trial.job.trial.seed == 1:
            return {**DONE, "state": "unfinished", "stopped": True}  # preempted, after it has saved
        return DONE

    engine = ForkingEngine(tmp_path / "jobs", work)
    outcome, said = run(engine, 3)
    assert [result.state for result in outcome.results] == ["finished"] * 3
    assert sorted(engine.submitted) == sorted(f"small fpo seed {seed}" for seed in (0, 0, 1, 1, 2))
    assert "small fpo seed 0: its worker was lost (its process was killed); it goes to another one" in said
    assert "small fpo seed 1: its worker was lost (it was stopped); it goes to another one" in said


def test_a_trial_that_loses_every_worker_fails_and_the_others_go_on(tmp_path: Path) -> None:
    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        if trial.job.trial.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return DONE

    engine = ForkingEngine(tmp_path / "jobs", work)
    outcome, _ = run(engine, 2)
    assert [result.state for result in outcome.results] == ["failed", "finished"]
    failure = outcome.results[0].failure
    assert failure is not None and failure.exit_code == outcome.exit_code == 137
    assert "5 workers were lost" in failure.message and "its process was killed" in failure.message
    assert engine.submitted.count("small fpo seed 0") == MOST_LOST == 5


def test_an_error_in_a_worker_is_the_failure_of_its_trial(tmp_path: Path) -> None:
    """As on a machine that does not see the folder of the results."""
    (job,) = jobs(1)
    trial = packed(job, 1)
    assert trial.job.recipe is not None
    trial.job.recipe.unlink()
    result = remote.unpacked(job, TrialMaker()(trial))
    assert result.state == "failed" and result.failure is not None and result.failure.exit_code == 2
    assert "all machines need to see --out under the same path" in result.failure.message
    other = TrialMaker()(replace(trial, version="0.0.1"))
    assert "flowrl 0.0.1" in other["failure"]["message"]


def test_a_killed_driver_is_followed_by_one_that_attaches(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        while not go.exists():
            time.sleep(0.02)
        return DONE

    def drive() -> None:
        run(ForkingEngine(tmp_path / "jobs", work, keeps_jobs=True), 2)

    first = Fork(tmp_path, drive)
    first.wait_for(lambda: len(list(Path("out").rglob("seed*.job"))) == 2)
    os.kill(first.pid, signal.SIGKILL)
    first.finish()
    engine = ForkingEngine(tmp_path / "jobs", work, keeps_jobs=True)
    notes = [note_of(job).read_text() for job in jobs(2)]
    said: list[str] = []
    handles = [ClusterExecutor(engine, 2).start(job, said.append) for job in jobs(2)]
    go.touch()
    assert engine.submitted == []
    for handle, note in zip(handles, notes, strict=True):
        assert handle is not None and not isinstance(handle, scheduler.TrialResult)
        assert handle.beginning == f"attached to forks job {note.split()[1]}"
        while (result := handle.poll(stopping=False)) is None:
            time.sleep(0.02)
        assert result.state == "finished"


def test_a_signal_leaves_the_jobs_of_an_engine_that_keeps_them(tmp_path: Path) -> None:
    ids = tmp_path / "jobs"

    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        time.sleep(60)
        return DONE

    def drive() -> int:
        outcome, said = run(ForkingEngine(ids, work, keeps_jobs=True), 2)
        print("\n".join(said))
        return outcome.exit_code

    driver = Fork(tmp_path, drive)
    driver.wait_for(lambda: len(list(ids.glob("*.began"))) == 2)
    os.kill(driver.pid, signal.SIGTERM)
    code, out, errors = driver.finish(20)
    assert code == 143, errors
    assert "2 forks are left running. The same command attaches to them again." in out
    for began in ids.glob("*.began"):
        os.kill(int(began.stem), signal.SIGKILL)  # it is there


def test_a_signal_is_passed_on_to_workers_that_would_end_with_the_driver(tmp_path: Path) -> None:
    def work(trial: RemoteTrial, attempt: int) -> dict[str, Any]:
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        (tmp_path / f"ready{trial.job.trial.seed}").touch()
        while not stopped:
            time.sleep(0.02)
        (tmp_path / f"saved{trial.job.trial.seed}").touch()
        return {**DONE, "state": "unfinished", "stopped": True}

    driver = Fork(tmp_path, lambda: run(ForkingEngine(tmp_path / "jobs", work), 2)[0].exit_code)
    driver.wait_for(lambda: len(list(tmp_path.glob("ready*"))) == 2)
    os.kill(driver.pid, signal.SIGINT)
    assert driver.finish(20).code == 130
    assert len(list(tmp_path.glob("saved*"))) == 2


def test_a_trial_that_another_process_has_locked_is_not_submitted(tmp_path: Path) -> None:
    engine = ForkingEngine(tmp_path / "jobs", lambda trial, attempt: DONE)
    (job,) = jobs(1)
    job.folder.mkdir(parents=True)
    held = lock.lock_file(job.log)
    assert held is not None
    makes = ClusterExecutor(engine, 1)
    assert makes.start(job, print) is None and engine.submitted == []
    held.close()
    assert makes.start(job, print) is not None and len(engine.submitted) == 1


# --- what travels -----------------------------------------------------------------------------------


def test_the_resolved_recipe_travels_with_absolute_paths(tmp_path: Path) -> None:
    (job,) = jobs(1)
    trial = packed(job, 3)
    Path("small.yaml").write_text("edited: while the job waits")
    assert trial.job.folder == tmp_path / "out/small/fpo/seed0"
    assert trial.job.recipe == tmp_path / "out/small/fpo/seed0.yaml"
    assert api.load_config(str(trial.job.recipe)).model_dump(mode="json") == job.config
    assert (trial.current_folder, trial.cpus, trial.gpus, trial.parallel) == (str(tmp_path), 1, 0, 3)
    config = job.config | {"threads": 3, "device": "cuda"}
    assert (replace(trial, job=replace(job, config=config)).cpus, trial.gpus) == (3, 0)
    assert replace(trial, job=replace(job, config=config)).gpus == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_worker_makes_a_trial_as_a_local_suite_does(tmp_path: Path) -> None:
    """It trains from the recipe that has travelled, and ends its children when it is killed."""
    Path("small.yaml").write_text(small(64))
    (job,) = jobs(1)
    (local,) = scheduler.run([job], 1, print).results
    shutil.move("out", "local")
    Path("small.yaml").unlink()
    result = Fork(tmp_path, lambda: Path("result.json").write_text(json.dumps(TrialMaker()(packed(job, 1)))) and 0)
    assert result.finish().code == 0
    there = remote.unpacked(job, json.loads(Path("result.json").read_text()))
    assert there.state == "finished" and there.record is not None and local.record is not None
    assert there.returns == local.returns
    assert there.record.model_dump(exclude={"seconds", "env_steps_per_s", "evaluations"}) == local.record.model_dump(
        exclude={"seconds", "env_steps_per_s", "evaluations"}
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_training_ends_with_its_worker_and_saves(tmp_path: Path) -> None:
    Path("small.yaml").write_text(small(1_000_000_000))
    (job,) = jobs(1)
    trial = packed(job, 1)
    job.folder.mkdir(parents=True)
    worker = Fork(tmp_path, lambda: TrialMaker()(trial) and 0)
    metrics = job.folder / "metrics.jsonl"
    worker.wait_for(lambda: metrics.is_file() and metrics.stat().st_size > 0)
    os.kill(worker.pid, signal.SIGKILL)
    worker.finish()
    limit = time.monotonic() + 30
    while lock.file_is_locked(job.log):  # by the training, which has inherited the lock
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert "stopped by SIGTERM; saved" in job.log.read_text()


# --- the option -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ("slrum", ["--on slrum", "Did you mean 'slurm'"]),
        ("slurm:partiton=gpu", ["'partiton=gpu'", "Did you mean 'partition'"]),
        ("slurm:timeout_min=0", ["timeout_min is a positive whole number"]),
        ("slurm:timeout_min=4", ["timeout_min is at least 5", "a job that is asked while it starts is lost"]),
        ("slurm:mem_gb=x", ["mem_gb is a positive number"]),
        ("slurm:partition", ["'partition'", "is no option with a value"]),
        ("slurm:cluster=debug", ["cluster is slurm, or local"]),
    ],
)
def test_a_wrong_engine_is_refused(on: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        engines.open_executor(on, Path("out"), 1)
    assert all(word in str(refusal.value) for word in words)


def test_options_of_slurm_are_those_of_submitit() -> None:
    assert engines.slurm_options("timeout_min=5").timeout_min == 5
    parsed = engines.slurm_options("partition=gpu,timeout_min=600,mem_gb=1.5")
    assert parsed == SlurmOptions(partition="gpu", timeout_min=600, mem_gb=1.5)
    assert parsed.parameters() == {"slurm_partition": "gpu", "timeout_min": 600, "mem_gb": 1.5}
    assert isinstance(parsed.timeout_min, int)


@pytest.mark.parametrize(("on", "package", "extra"), [("slurm", "submitit", "slurm"), ("ray", "ray", "ray")])
def test_an_engine_that_is_not_installed_names_the_pip_line(
    on: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.run(["suite", "small.yaml", "--algorithms", "fpo", "--out", "out", "--on", on]) == 8
    assert reinstall(extra) in capsys.readouterr().err and not Path("out").exists()
    assert flowrl.__version__


# --- waiting ----------------------------------------------------------------------------------------


def test_waiting_for_locked_trials_costs_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten looks a second at each of 100 trials for ten minutes would be 600,000."""
    monkeypatch.undo()
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    retries, looks = RetryTimes(), 0
    assert retries.postpone(0) and not retries.postpone(0)
    while now[0] < 600:
        for trial in range(100):
            if retries.is_due(trial):
                retries.postpone(trial)
                looks += 1
        now[0] += 0.25
    assert retries.waited(0) > 590
    assert 100 * 600 / 30 <= looks <= 4 * 600 + 100  # at least twice a minute, and four in a second
    alone, looks, start = RetryTimes(), 0, now[0]
    while now[0] < start + 60:
        if alone.is_due(0):
            alone.postpone(0)
            looks += 1
        now[0] += 0.1
    assert 20 < looks < 50  # every half second at first, then after a tenth of the time that it has waited
    alone.forget(0)
    assert alone.is_due(0) and alone.waited(0) == 0
