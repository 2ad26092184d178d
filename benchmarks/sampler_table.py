"""GridWorld under every pair of training sampler and evaluation sampler: success and mean episode length.

    python benchmarks/sampler_table.py --seeds 3 --out docs/results

Trains `gridworld.yaml` with each sampler, then evaluates every checkpoint under each. Writes sampler_table.json
and sampler_table.md, and the NFE-quality-latency front of the first Euler run as front.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from flowrl.experiments import evaluate
from flowrl.experiments.build import load_policy
from flowrl.reporting.plots import pareto_front, style

SAMPLERS = ["euler:10", "midpoint:5", "heun:5", "rk4:4", "dopri5"]
FRONT = [f"{name}:{steps}" for name in ("euler", "midpoint", "heun", "ab2", "rk4") for steps in (1, 2, 4, 8)] + [
    "dopri5"
]
EPISODES = 1000


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--runs", type=Path, default=Path("runs/sampler-benchmark"))
    options.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = options.parse_args()
    out, runs = arguments.out, arguments.runs
    out.mkdir(parents=True, exist_ok=True)
    results = [
        result for trained in SAMPLERS for seed in range(arguments.seeds) for result in measure(trained, seed, runs)
    ]
    (out / "sampler_table.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "sampler_table.md").write_text(table(results))
    print(table(results))
    draw_front(runs / folder_name(SAMPLERS[0], 0), out)
    return 0


def folder_name(sampler: str, seed: int) -> str:
    return f"{sampler.replace(':', '-')}-seed{seed}"


def measure(trained: str, seed: int, runs: Path) -> list[dict[str, Any]]:
    """Train with one sampler and evaluate under all."""
    folder = runs / folder_name(trained, seed)
    if not (folder / "ckpt.pt").exists():
        name, _, steps = trained.partition(":")
        sampler = f"sampler={{name: {name}, steps: {steps}}}" if steps else f"sampler={{name: {name}}}"
        command = [sys.executable, "-m", "flowrl", "train", "gridworld.yaml", "--json", "--set", sampler]
        command += ["--out", str(runs), "--name", folder.name, "--seed", str(seed)]
        subprocess.run(command, check=True, capture_output=True)
    loaded = evaluate.open_checkpoint(folder)
    requests = evaluate.EvalRequest(sampler=",".join(SAMPLERS), episodes=EPISODES, seed=1, noise="random")
    results = []
    for request, name in zip(requests.each(None), SAMPLERS, strict=True):
        result = evaluate.evaluate_checkpoint(loaded, request).summary()
        results.append(
            {"trained": trained, "evaluated": name, "seed": seed, "nfe": result["nfe"]}
            | {"success": result["success_rate"], "length": result["length_mean"]}
        )
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Format success / length, medians over the seeds, with a row per training sampler."""
    lines = ["| trained with \\ evaluated with | " + " | ".join(SAMPLERS) + " |", "|---" * (len(SAMPLERS) + 1) + "|"]
    for trained in SAMPLERS:
        entries = []
        for evaluated in SAMPLERS:
            pair = [r for r in results if (r["trained"], r["evaluated"]) == (trained, evaluated)]
            success, length = (statistics.median(r[key] for r in pair) for key in ("success", "length"))
            entries.append(f"{success:.3f} / {length:.2f}")
        lines.append(f"| {trained} | " + " | ".join(entries) + " |")
    return "\n".join(lines) + "\n"


def draw_front(folder: Path, out: Path) -> None:
    """Draw the mean episode length over NFE and over the time of one action."""
    loaded = evaluate.open_checkpoint(folder)
    choices, rows = [], []
    for request in evaluate.EvalRequest(sampler=",".join(FRONT), episodes=EPISODES, seed=1).each(None):
        result = evaluate.evaluate_checkpoint(loaded, request).summary()
        latency = single_action_us(loaded, request)
        name = result["sampler"] if result["steps"] is None else f"{result['sampler']} {result['steps']}"
        rows.append({"sampler": name, "nfe": result["nfe"], "latency_us": latency, "length": result["length_mean"]})
        choices.append(pareto_front.Choice(result["sampler"], result["nfe"], latency, result["length_mean"]))
    (out / "front.json").write_text(json.dumps(rows, indent=1) + "\n")
    style.save(pareto_front.draw(choices, "mean episode length", better="lower"), out / "front.png")


def single_action_us(loaded: evaluate.LoadedCheckpoint, request: evaluate.EvalRequest) -> float:
    """Measure the median time in µs of one action at batch size 1."""
    policy = load_policy(loaded.path, loaded.content, evaluate.configured(loaded, request)).policy
    obs = torch.zeros(1, 2)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        policy(obs)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
