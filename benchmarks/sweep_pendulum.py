"""A sweep of 20 trials of pendulum that is killed in the middle: it continues, and its best recipe beats the default.

    python benchmarks/sweep_pendulum.py OUT [--trials 20] [--steps 20000]

The sweep and the process that trains are killed with SIGKILL when a third of the trials are done; the same command then
does the rest. The best recipe and the recipe as it is are trained with seeds that the sweep did not use, and evaluated
over 64 episodes each: a comparison that the choice of the best does not favour. Writes OUT/result.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

SPACE = """
learner.learning_rate: {low: 1e-4, high: 1e-2, log: true}
learner.clip: {low: 0.05, high: 0.5}
learner.epochs: {low: 2, high: 16}
learner.gae_lambda: {low: 0.8, high: 0.99}
learner.probes.count: [4, 8, 16]
"""
FRESH_SEEDS = (100, 101, 102)
FLOWRL = [sys.executable, "-m", "flowrl"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True)
    (out / "space.yaml").write_text(SPACE)
    sweep = [*FLOWRL, "sweep", "pendulum", "--space", str(out / "space.yaml"), "--out", str(out / "sweep")]
    sweep += ["--trials", str(options.trials), "--steps", str(options.steps), "--jobs", str(options.jobs), "--json"]

    begun = time.monotonic()
    done_when_killed = kill_when_done(sweep, out, options.trials // 3)
    document = json.loads(subprocess.run(sweep, check=True, stdout=subprocess.PIPE).stdout)
    states = [trial["state"] for trial in document["trials"]]
    assert states == ["finished"] * options.trials, states
    seconds = time.monotonic() - begun

    best = fresh(out / "sweep" / "best.yaml", [], out / "best")
    default = fresh("pendulum", ["--set", f"total_steps={options.steps}"], out / "default")
    result = {
        "trials": options.trials,
        "steps": options.steps,
        "done when killed": done_when_killed,
        "seconds": round(seconds),
        "best trial": document["best"],
        "first trial, the recipe as it is": next(each["return"] for each in document["trials"] if each["trial"] == 0),
        "importance": document["importance"],
        "fresh seeds": FRESH_SEEDS,
        "returns of the best recipe": best,
        "returns of the default recipe": default,
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, returns in (("best", best), ("default", default)):
        print(f"{name}: {fmean(returns):.1f} ± {stdev(returns):.1f} (standard deviation over seeds {FRESH_SEEDS})")
    assert fmean(best) > fmean(default)


def kill_when_done(sweep: list[str], out: Path, number: int) -> int:
    """Start the sweep and kill it and its children after `number` trials, while one trains; return the number done."""
    process = subprocess.Popen(sweep, stdout=subprocess.DEVNULL)
    while finished(out) < number or not training(out):
        assert process.poll() is None, "the sweep has ended"
        time.sleep(0.2)
    for pid in (process.pid, *descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return finished(out)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [each for child in children for each in (child, *descendants(child))]


def finished(out: Path) -> int:
    return len(list(out.glob("sweep/trial*/seed*/evaluation.json")))


def training(out: Path) -> bool:
    """Whether a run has done some iterations and not all."""
    return any(
        not (path.parent / "evaluation.json").exists() and path.read_text().count("\n") > 3
        for path in out.glob("sweep/trial*/seed*/metrics.jsonl")
    )


def fresh(recipe: str | Path, more: list[str], out: Path) -> list[float]:
    """Train a recipe with seeds of its own and return the mean return of each run."""
    returns = []
    for seed in FRESH_SEEDS:
        train = [*FLOWRL, "train", str(recipe), "--seed", str(seed), "--out", str(out), "--name", f"seed{seed}", *more]
        subprocess.run([*train, "--json"], check=True, stdout=subprocess.DEVNULL)
        evaluate = [*FLOWRL, "eval", str(out / f"seed{seed}"), "--episodes", "64", "--seed", "5000", "--json"]
        returns.append(json.loads(subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout)["return_mean"])
    return returns


if __name__ == "__main__":
    main()
