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


ENGINES = {"submitit": "submitit's local executor", "slurm": "SLURM", "ray": "Ray, two raylets"}
CLUSTER = "slurm.txt"  # which SLURM it was, as 'SLURM 22.05.8, 2 nodes'


@dataclass(frozen=True)
class Outcome:
    """A suite, by what its folder and its output say."""

    engine: str
    seconds: float  # from the first recipe or log to the last record
    workers_lost: int
    drivers_killed: int
    resumed: int  # trainings that went on from a checkpoint
    records: int  # equal to those of the local suite
    checkpoints: int
    metrics: int


def main() -> None:
    """Run the suites that are not there, and write the page on all that are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/clusters"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--engines", default=",".join(ENGINES), help="of those that are to be run; '' writes the page")
    options = parser.parse_args()
    folder = options.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(RECIPE)
    if not (folder / "local.log").exists():
        with (folder / "local.log").open("w") as log:
            subprocess.run(command("local"), cwd=folder, stdout=log, stderr=log, check=True)
    for name in filter(None, options.engines.split(",")):
        shutil.rmtree(folder / name, ignore_errors=True)
        if name == "ray":
            with ray_cluster() as address:
                interrupted(folder, name, f"ray:{address}")
        elif name == "submitit":
            interrupted(folder, name, "slurm:cluster=local")
        elif shutil.which("sbatch"):
            (folder / CLUSTER).write_text(slurm_cluster())
            interrupted(folder, name, "slurm:timeout_min=30")
    names = ENGINES | ({"slurm": (folder / CLUSTER).read_text()} if (folder / CLUSTER).exists() else {})
    outcomes = [outcome(folder, "local", "this machine, nothing killed")]
    outcomes += [outcome(folder, name, engine) for name, engine in names.items() if is_complete(folder / name)]
    options.page.write_text(page(outcomes))
    print(options.page.read_text())


def command(out: str, on: str | None = None) -> list[str]:
    """The words of the suite."""
    return [sys.executable, "-m", "flowrl", *SUITE.split(), "--out", out, *(["--on", on] if on else [])]


def is_complete(out: Path) -> bool:
    """Whether all trials of a suite are finished."""
    return len(list(out.glob("*/*/seed?/evaluation.json"))) == 12


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


def slurm_cluster() -> str:
    """The version of SLURM and its number of nodes."""
    version = answer("sinfo", "--version").removeprefix("slurm-wlm ").removeprefix("slurm ")
    return f"SLURM {version}, {answer('sinfo', '--noheader', '--format=%D')} nodes"


def answer(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


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


def interrupted(folder: Path, name: str, on: str) -> None:
    """Run the suite by an engine: kill three workers, then the driver, and type the command again.

    SLURM also takes a running job back into its queue, as where another preempts it.
    """
    out = folder / name
    with (folder / f"{name}.log").open("w") as log:
        driver = subprocess.Popen(command(name, on), cwd=folder, stdout=log, stderr=log)
        wait_for(lambda: any(out.rglob("metrics.jsonl")))
        for seconds in KILL_AFTER_S:
            time.sleep(seconds)
            wait_for(lambda: bool(workers(out)))
            os.kill(workers(out)[0], signal.SIGKILL)
        time.sleep(DRIVER_AFTER_S)
        if name == "slurm":
            wait_for(lambda: bool(workers(out)))
            running = answer("squeue", "--noheader", "--states=RUNNING", f"--name=flowrl-{name}", "--format=%A")
            subprocess.run(["scontrol", "requeue", running.split()[0]], check=True)
        driver.kill()
        driver.wait()
        assert not is_complete(out), "the driver was killed too late: make the trials longer"
        subprocess.run(command(name, on), cwd=folder, stdout=log, stderr=log, check=True)


def wait_for(condition: Any) -> None:
    """Wait until `condition` holds."""
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def outcome(folder: Path, name: str, engine: str) -> Outcome:
    """Compare a suite with the local one, and count what its output says."""
    local, out, said = folder / "local", folder / name, (folder / f"{name}.log").read_text()
    records = checkpoints = metrics = resumed = 0
    for expected in sorted(local.glob("*/*/seed?")):
        found = out / expected.relative_to(local)
        records += without_times(read(expected)) == without_times(read(found))
        contents = [torch.load(each / "ckpt.pt", weights_only=True) for each in (expected, found)]
        checkpoints += equal(*map(without_times, contents))
        lines = [
            [without_times(json.loads(line)) for line in (each / "metrics.jsonl").read_text().splitlines()]
            for each in (expected, found)
        ]
        metrics += lines[0] == lines[1]
        resumed += found.with_name(f"{found.name}.log").read_text().count("$ flowrl train --resume")
    times = [path.stat().st_mtime for path in (*out.rglob("seed*.yaml"), *out.glob("*/*/seed?/*"))]
    return Outcome(
        engine,
        max(times) - min(times),
        said.count("its worker was lost"),
        said.count("12 trials:") - 1,
        resumed,
        records,
        checkpoints,
        metrics,
    )


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
        f"| {each.engine} | {each.workers_lost} | {each.drivers_killed} | {each.resumed} | {each.records} of 12 | "
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
            "equal when they are those of the suite in the first row, times excepted. SLURM was also told to take one",
            "running job back into its queue (`scontrol requeue`), as where another job preempts it.",
            "",
            "| engine | workers lost | drivers killed | resumed | equal records | checkpoints | metrics | wall |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"All on one machine: {here.processor}, {here.cores} cores, which other programs used as well; {versions},",
            "Python " + here.python + ". The walls are no measure of the engines' speed.",
            "*resumed* counts the trainings that went on from a checkpoint. A worker that is killed while it",
            "evaluates, or before its training has begun, is not among them.",
            "",
            "Not tried: a cluster of several machines (the nodes of SLURM and Ray are on one), network drives, GPUs.",
            "`python benchmarks/clusters.py` makes this page; where SLURM's commands are missing, its row is left out.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
