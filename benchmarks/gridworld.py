"""GridWorld two_walls with FPO and PPO: training time, success, length, and the walls reached from the centre.

    python benchmarks/gridworld.py --seeds 10 --out docs/results

Each run is a process of `flowrl train gridworld.yaml`, one after the other. Writes gridworld.json and a Markdown
table; exits with 7 when a target of the README is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flowrl.envs import gridworld
from flowrl.experiments import evaluate, gridworld_plot
from flowrl.experiments.build import load_policy

EPISODES = 1000
FROM_CENTRE = 200
OPTIMUM = 121 / 21


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--runs", type=Path, default=Path("runs/gridworld-benchmark"))
    options.add_argument("--out", type=Path, default=Path("docs/results"))
    options.add_argument("--algorithms", default="fpo,ppo")
    arguments = options.parse_args()
    rows = []
    for algorithm in arguments.algorithms.split(","):
        for seed in range(arguments.seeds):
            rows.append(measure(algorithm, seed, arguments.runs))
            print(line(rows[-1]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    targets = check_targets([row for row in rows if row["algorithm"] == "fpo"])
    document = {"optimum": OPTIMUM, "rows": rows, "bars": targets}
    (arguments.out / "gridworld.json").write_text(json.dumps(document, indent=1) + "\n")
    (arguments.out / "gridworld.md").write_text(table(rows))
    print(json.dumps(targets, indent=1))
    return 0 if all(target["met"] for target in targets) else 7


def measure(algorithm: str, seed: int, runs: Path) -> dict[str, Any]:
    """Train one run and evaluate it from all starts and from the centre."""
    folder = runs / f"{algorithm}-seed{seed}"
    trained = train(algorithm, seed, folder)
    loaded = evaluate.open_checkpoint(folder)
    request = evaluate.EvalRequest(episodes=EPISODES, seed=1, noise="random")
    result = evaluate.evaluate_checkpoint(loaded, request).summary()
    row = {"algorithm": algorithm, "seed": seed, "train_s": trained["seconds"], "env_steps": trained["env_steps"]}
    row |= {"success": result["success_rate"], "length": result["length_mean"]}
    for noise in ("random", "zero"):
        row |= {f"{noise}_{key}": value for key, value in from_centre(loaded, noise).items()}
    return row


def train(algorithm: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a run unless it was trained before; return the JSON document of `flowrl train`."""
    record = folder / "trained.json"
    if not record.exists():
        command = [sys.executable, "-m", "flowrl", "train", "gridworld.yaml", "--json", "--out", str(folder.parent)]
        command += ["--name", folder.name, "--set", f"algorithm={algorithm}", "--seed", str(seed)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        record.write_text(done.stdout)
    return json.loads(record.read_text())


def from_centre(loaded: evaluate.LoadedCheckpoint, noise: str) -> dict[str, float]:
    """Compute the shares of episodes from (12, 12) that end at the upper wall, at the lower wall, and at either."""
    config = loaded.config.model_copy(update={"noise": noise})
    policy = load_policy(loaded.path, loaded.content, config, seed=2).policy
    ends = np.array([path[-1, 1] for path in gridworld_plot.trajectories(policy, loaded, FROM_CENTRE)])
    up, down = ends >= gridworld.SIZE - 2, ends <= 1
    return {"up": float(up.mean()), "down": float(down.mean()), "reached": float((up | down).mean())}


def check_targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare the results with the targets of the README."""
    first = rows[:5]
    both = sum(min(r["random_up"], r["random_down"]) >= 0.2 and r["random_reached"] >= 0.99 for r in rows)
    seconds = statistics.median(r["train_s"] for r in first)
    success = statistics.median(r["success"] for r in first)
    length = statistics.median(r["length"] for r in first)
    return [
        {"bar": "success >= 0.99, median of 5", "reached": success, "met": success >= 0.99},
        {"bar": "length <= 6.2, median of 5", "reached": length, "met": length <= 6.2},
        {"bar": "training <= 6.5 s, median of 5", "reached": seconds, "met": seconds <= 6.5},
        {"bar": "both walls >= 20 % from the centre in >= 7 of 10", "reached": both, "met": both >= 0.7 * len(rows)},
    ]


COLUMNS = ["algorithm", "seed", "train s", "success", "length", "up", "down", "reached", "zero-noise reached"]


def line(row: dict[str, Any]) -> str:
    shares = [row["random_up"], row["random_down"], row["random_reached"], row["zero_reached"]]
    numbers = [f"{row['train_s']:.1f}", f"{row['success']:.3f}", f"{row['length']:.2f}", *(f"{s:.2f}" for s in shares)]
    return "| " + " | ".join([row["algorithm"], str(row["seed"]), *numbers]) + " |"


def table(rows: list[dict[str, Any]]) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    return head + "\n".join(line(row) for row in rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
