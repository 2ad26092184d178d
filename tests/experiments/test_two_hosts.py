"""The same command on two hosts shares the work: on a drive without locks, between processes whose hosts have names of
their own, and between sweeps."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowrl.experiments.sweep import study as studies
from tests.other_process import Command, descendants
from tests.small_recipe import small

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]

REFUSING = "#include <errno.h>\nint flock(int file, int operation) { errno = ENOLCK; return -1; }\n"
NAMED = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']


class Host:
    """`flowrl words` on a host called `name`, whose drives refuse flock, in the folder `folder`."""

    def __init__(self, name: str, folder: Path, *words: str) -> None:
        self._out, self._err = (folder / f"{name}.{stream}" for stream in ("out", "err"))
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*NAMED, name, sys.executable, "-m", "flowrl", *words],
                cwd=folder,
                env=os.environ | {"LD_PRELOAD": str(folder / "refusing.so"), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end: its exit code, output and errors."""
        return self.process.wait(200), self._out.read_text(), self._err.read_text()

    def kill(self) -> None:
        """Kill the command and all processes that it has started, as a power cut does."""
        for pid in (self.process.pid, *descendants(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if subprocess.run([*NAMED, "a", "true"], capture_output=True, check=False).returncode or compiler is None:
        pytest.skip("no compiler, or this system does not let users make namespaces")
    (tmp_path / "refusing.c").write_text(REFUSING)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "refusing.so", "refusing.c"], cwd=tmp_path, check=True)
    return tmp_path


def suite(seeds: int) -> list[str]:
    return ["suite", "small.yaml", "--algorithms", "fpo", "--seeds", str(seeds), "--episodes", "3", "--out", "out"]


def test_two_hosts_share_a_suite_on_a_drive_without_locks(folder: Path) -> None:
    (folder / "small.yaml").write_text(small(6400))
    hosts = [Host(name, folder, *suite(4), "--json") for name in ("first", "second")]
    ends = [host.finish() for host in hosts]
    assert [code for code, _, _ in ends] == [0, 0], ends
    made = [json.loads(out)["finished"] for _, out, _ in ends]
    assert sum(made) == 4 and all(json.loads(out)["finished"] + json.loads(out)["kept"] == 4 for _, out, _ in ends)
    logs = [(folder / f"out/small/fpo/seed{seed}.log").read_text() for seed in range(4)]
    assert [log.count("$ flowrl train") for log in logs] == [1] * 4
    assert not list(folder.rglob("*.claim"))


def test_a_host_goes_on_with_the_trial_of_one_that_has_failed(folder: Path) -> None:
    (folder / "small.yaml").write_text(small(38_400) + "checkpoint: {every_s: 0.2}\n")
    first = Host("first", folder, *suite(1))
    run = folder / "out/small/fpo/seed0"
    limit = time.monotonic() + 100
    while not (run / "metrics.jsonl").is_file() or (run / "metrics.jsonl").read_text().count("\n") < 100:
        assert time.monotonic() < limit
        time.sleep(0.05)
    claims = [json.loads(path.read_text()) for path in (run.with_name("seed0.log.claim"), run / ".writer.claim")]
    assert [each["host"] for each in claims] == ["first", "first"]
    first.kill()
    code, _, errors = Host("second", folder, *suite(1)).finish()
    assert code == 0, errors
    assert "1 to continue" in errors
    lines = [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]
    assert lines == list(range(1, 1201))  # of 4 x 8 steps


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")
def test_two_processes_share_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(small(640))
    (tmp_path / "space.yaml").write_text("learner.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    words = ["sweep", "small.yaml", "--space", "space.yaml", "--episodes", "2", "--out", "out", "--trials", "6"]
    folders = [tmp_path / name for name in ("one", "two")]
    commands = []
    for folder in folders:
        folder.mkdir()
        commands.append(Command(folder, *words, before=lambda: os.chdir(tmp_path)))
    for command in commands:
        code, errors = command.end(200)
        assert code == 0, errors
    library = studies.optuna()
    storage = library.storages.JournalStorage(library.storages.journal.JournalFileBackend("out/study.journal"))
    trials = library.load_study(study_name=studies.NAME, storage=storage).trials
    assert [(trial.number, trial.state.name) for trial in trials] == [(number, "COMPLETE") for number in range(6)]
    assert len({trial.params["learner.learning_rate"] for trial in trials}) == 6  # no value is proposed twice
    logs = [Path(f"out/trial{number:04d}/seed0.log").read_text() for number in range(6)]
    assert [log.count("$ flowrl train") for log in logs] == [1] * 6
