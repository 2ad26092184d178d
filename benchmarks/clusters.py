"""A suite of 12 trials by submitit, SLURM and Ray, whose workers and drivers are killed, beside a local one.

Every record, every entry of every checkpoint and every line of metrics has to be that of the local suite, except for
times. SLURM is tried where its commands are installed. Writes docs/results/clusters.md:

    python benchmarks/clusters.py --out build/clusters
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from flowrl.evaluation.machine import machine

PAGE = Path(__file__).parent.parent / "docs/results/clusters.md"
RECIPE = """
total_steps: 40960
env: {id: flowrl/GridWorld-v0, count: 64}
policy: {hidden: [32, 32]}
rollout: {steps: 8}
learner: {epochs: 2, minibatches: 2, critic: {hidden: [32, 32]}}
checkpoint: {every_s: 0.5}
fpo: {sampler: {name: euler, steps: 2}}
"""
SUITE = "suite small.yaml --algorithms fpo,ppo --seeds 6 --episodes 8 --jobs 2"
TIMES = {"seconds", "env_steps_per_s", "machine", "action_us", "collect_s", "update_s"}
KILL_AFTER_S = (2.0, 5.0, 5.0)  # since the one before: a worker of a trial that has begun
DRIVER_AFTER_S = 5.0
RAY = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class Outcome:
    """A suite by one engine."""

    engine: str
    seconds: float = 0.0
    workers_killed: int = 0
    drivers_killed: int = 0
    resumed: int = 0  # trainings that went on from a checkpoint
    records: int = 0  # equal to those of the local suite
    checkpoints: int = 0
    metrics: int = 0


def main() -> None:
    """Run the suites and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/clusters"))
    parser.add_argument("--page", type=Path, default=PAGE)
    folder = parser.parse_args().out.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(RECIPE)
    begin = time.monotonic()
    subprocess.run(command("local"), cwd=folder, check=True)
    outcomes = [Outcome("this machine, nothing killed", time.monotonic() - begin)]
    outcomes.append(interrupted(folder, "submitit's local executor", "submitit", "slurm:cluster=local"))
    if shutil.which("sbatch"):
        version = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        outcomes.append(interrupted(folder, f"SLURM {version}", "slurm", "slurm:timeout_min=30"))
    with ray_cluster() as address:
        outcomes.append(interrupted(folder, "Ray, two raylets", "ray", f"ray:{address}"))
    for outcome, name in zip(outcomes, ("local", *(path.name for path in suites(folder))), strict=True):
        compare(folder / "local", folder / name, outcome)
    args_page = parser.parse_args().page
    args_page.write_text(page(outcomes))
    print(args_page.read_text())


def command(out: str, on: str | None = None) -> list[str]:
    """The words of the suite."""
    return [sys.executable, "-m", "flowrl", *SUITE.split(), "--out", out, *(["--on", on] if on else [])]


def suites(folder: Path) -> list[Path]:
    """The folders of the suites by engines, in the order in which they were made."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and path.name != "local"), key=began)


def began(out: Path) -> float:
    """When a suite began."""
    return min(path.stat().st_mtime for path in out.rglob("seed*.yaml"))


@contextmanager
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a CPU each, on this machine."""
    with subprocess.Popen(
        [sys.executable, "-c", RAY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        address = next(line.strip() for line in process.stdout if re.fullmatch(r"[\d.]+:\d+\s*", line))
        yield address
        process.stdin.close()


def workers(out: Path) -> list[int]:
    """The worker processes of the engine, each of which makes one trial of the suite in `out`."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            by_submitit = "submitit.core._submit" in words and str(out) in words and "srun" not in words
            if by_submitit or words.startswith("ray::small "):
                found.append(int(entry.name))
    return sorted(found)


def interrupted(folder: Path, engine: str, name: str, on: str) -> Outcome:
    """Run the suite by an engine: kill three workers, then the driver, and type the command again."""
    out, outcome, begin = folder / name, Outcome(engine), time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        driver = subprocess.Popen(command(name, on), cwd=folder, stdout=log, stderr=log)
        wait_for(lambda: any(out.rglob("metrics.jsonl")))
        for seconds in KILL_AFTER_S:
            time.sleep(seconds)
            wait_for(lambda: bool(workers(out)))
            os.kill(workers(out)[0], signal.SIGKILL)
            outcome.workers_killed += 1
        time.sleep(DRIVER_AFTER_S)
        driver.kill()
        driver.wait()
        outcome.drivers_killed += 1
        unfinished = 12 - len(list(out.rglob("evaluation.json")))
        assert unfinished > 2, "the driver was killed too late: make the trials longer"
        subprocess.run(command(name, on), cwd=folder, stdout=log, stderr=log, check=True)
    outcome.seconds = time.monotonic() - begin
    return outcome


def wait_for(condition: Any) -> None:
    """Wait until `condition` holds."""
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def compare(local: Path, out: Path, outcome: Outcome) -> None:
    """Count what is equal to the local suite."""
    for expected in sorted(local.glob("*/*/seed?")):
        found = out / expected.relative_to(local)
        outcome.records += without_times(read(expected)) == without_times(read(found))
        contents = [torch.load(each / "ckpt.pt", weights_only=True) for each in (expected, found)]
        outcome.checkpoints += equal(*map(without_times, contents))
        lines = [
            [without_times(json.loads(line)) for line in (each / "metrics.jsonl").read_text().splitlines()]
            for each in (expected, found)
        ]
        outcome.metrics += lines[0] == lines[1]
        outcome.resumed += found.with_name(f"{found.name}.log").read_text().count("$ flowrl train --resume")


def read(run: Path) -> Any:
    """The record of a trial."""
    return json.loads((run / "evaluation.json").read_text())


def without_times(value: Any) -> Any:
    """Plain values without those that measure time, and without the places of files in a log."""
    if isinstance(value, dict):
        return {
            key: without_times(item) for key, item in value.items() if key not in TIMES and "offset" not in str(key)
        }
    return [without_times(item) for item in value] if isinstance(value, list | tuple) else value


def equal(one: Any, other: Any) -> bool:
    """Whether two contents of checkpoints are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def page(outcomes: list[Outcome]) -> str:
    """The page as Markdown."""
    here = machine()
    rows = [
        f"| {each.engine} | {each.workers_killed} | {each.drivers_killed} | {each.resumed} | {each.records} of 12 | "
        f"{each.checkpoints} of 12 | {each.metrics} of 12 | {each.seconds:.0f} s |"
        for each in outcomes
    ]
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("submitit", "ray", "torch"))
    return "\n".join(
        [
            "# A suite on clusters, with workers and drivers killed",
            "",
            "Twelve trials (GridWorld, FPO and PPO, six seeds, 40,960 environment steps each), two at a time. With",
            "each engine three workers in the middle of a trial and then the driver got SIGKILL, and the same command",
            "was typed again. A record, a checkpoint (every tensor and value) and the lines of metrics.jsonl count as",
            "equal when they are those of the suite in the first row, times excepted.",
            "",
            "| engine | workers killed | drivers killed | resumed | equal records | checkpoints | metrics | wall |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"All on one machine: {here.processor}, {here.cores} cores, which other programs used as well; {versions},",
            "Python " + here.python + ". The walls are no measure of the engines' speed.",
            "*resumed* counts the trainings that went on from a checkpoint. A worker that is killed while it evaluates",
            "is not among them; a training that has ended in between is only evaluated.",
            "",
            "Not tried: a cluster of several machines, network drives, preemption by a scheduler, GPUs.",
            "`python benchmarks/clusters.py` makes this page; where SLURM's commands are missing, its row is left out.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
