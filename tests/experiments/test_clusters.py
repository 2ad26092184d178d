"""Suites by submitit's local executor and by a Ray cluster of two raylets: workers and drivers are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from tests.equality import MEASURED, difference
from tests.small_recipe import small

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

STEPS = 96_000  # 3000 iterations
RAY = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
TIMES = {*MEASURED, "env_steps_per_s", "machine", "action_us", "collect_s", "update_s", "jobs"}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(small(STEPS) + "checkpoint: {every_s: 0.5}\n")
    return tmp_path


def start(folder: Path, out: str, on: str | None = None) -> subprocess.Popen[bytes]:
    words = f"suite small.yaml --algorithms fpo --seeds 2 --episodes 3 --jobs 2 --out {out}".split()
    with (folder / f"{out}.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flowrl", *words, *(["--on", on] if on else [])],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def workers(mark: str) -> list[int]:
    """The processes whose command line contains `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if mark in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def iterations(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0


def check_equal(local: Path, out: Path) -> None:
    """Records, checkpoints and metrics of two suites are equal, times excepted."""
    for seed in range(2):
        runs = [each / f"small/fpo/seed{seed}" for each in (local, out)]
        assert not difference(*[json.loads((run / "evaluation.json").read_text()) for run in runs], TIMES)
        assert not difference(*[torch.load(run / "ckpt.pt", weights_only=True) for run in runs], TIMES)
        lines = [[json.loads(line) for line in (run / "metrics.jsonl").open()] for run in runs]
        assert not difference(*lines, TIMES) and len(lines[1]) == STEPS // 32


def interrupted(folder: Path, on: str, mark: str) -> str:
    """Kill a worker and the driver of a suite, type it again; what it has printed."""
    runs = [folder / f"out/small/fpo/seed{seed}" for seed in range(2)]
    driver = start(folder, "out", on)
    wait_for(lambda: all(iterations(run) > 100 for run in runs))
    os.kill(workers(mark)[0], signal.SIGKILL)
    text = folder / "out.txt"
    wait_for(lambda: "its worker was lost" in text.read_text())
    wait_for(lambda: len(re.findall("as job", text.read_text())) == 3)
    driver.kill()
    driver.wait()
    assert not all((run / "evaluation.json").exists() for run in runs), "the driver was killed too late"
    assert start(folder, "out", on).wait(300) == 0, text.read_text()
    return text.read_text()


@needs("submitit")
def test_submitit_loses_nothing(folder: Path) -> None:
    """USR2, which SLURM sends before a time limit, lets a job save its trial and begin again."""
    local = start(folder, "local")
    said = interrupted(folder, "slurm:cluster=local", f"submitit.core._submit {folder}")
    assert local.wait(300) == 0
    assert said.count("submitted to submitit-local as job") >= 3
    check_equal(folder / "local", folder / "out")

    (folder / "small.yaml").write_text(small(640_000))
    driver = start(folder, "requeued", "slurm:cluster=local")
    run = folder / "requeued/small/fpo/seed0"
    wait_for(lambda: iterations(run) > 20)
    (worker, *_) = workers(f"submitit.core._submit {folder}/requeued")
    os.kill(worker, signal.SIGUSR2)
    log = run.with_name("seed0.log")
    others = run.with_name("seed1.log")
    wait_for(lambda: any("$ flowrl train --resume" in each.read_text() for each in (log, others)))
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    text = (folder / "requeued.txt").read_text()
    assert "2 processes are left running: kill " in text
    for pid in re.findall(r"kill ([\d ]+)", text)[0].split():
        os.kill(int(pid), signal.SIGTERM)
    wait_for(lambda: all("stopped by SIGTERM; saved" in each.read_text() for each in (log, others)))
    wait_for(lambda: not workers(f"submitit.core._submit {folder}/requeued"))


@needs("submitit")
def test_a_sweep_on_an_engine_is_the_local_sweep(folder: Path) -> None:
    (folder / "small.yaml").write_text(small(3_200))
    (folder / "space.yaml").write_text("learner.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    words = ["sweep", "small.yaml", "--space", "space.yaml", "--trials", "3", "--jobs", "1", "--episodes", "3"]
    for out, on in (("local", []), ("engine", ["--on", "slurm:cluster=local"])):
        command = [sys.executable, "-m", "flowrl", *words, "--out", out, *on]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("mean return") >= 3
    best = [(folder / out / "best.yaml").read_text() for out in ("local", "engine")]
    assert best[0] == best[1]


@contextmanager
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a CPU each."""
    with subprocess.Popen(
        [sys.executable, "-c", RAY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield next(line.strip() for line in process.stdout if re.fullmatch(r"[\d.]+:\d+\s*", line))
        finally:
            process.stdin.close()


@needs("ray")
def test_ray_loses_nothing(folder: Path) -> None:
    with ray_cluster() as address:
        said = interrupted(folder, f"ray:{address}", "ray::small fpo seed")
        assert said.count("submitted to Ray as job") >= 4
        assert start(folder, "local").wait(300) == 0
        check_equal(folder / "local", folder / "out")

        (folder / "small.yaml").write_text(small(3_200_000))
        driver = start(folder, "stopped", f"ray:{address}")
        runs = [folder / f"stopped/small/fpo/seed{seed}" for seed in range(2)]
        wait_for(lambda: all(iterations(run) > 20 for run in runs))
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(100) == 143, (folder / "stopped.txt").read_text()
        for run in runs:
            assert "stopped by SIGTERM; saved" in run.with_name(f"{run.name}.log").read_text()
        said = (folder / "stopped.txt").read_text()
        assert "2 running; each finishes its iteration and saves" in said and "Traceback" not in said
