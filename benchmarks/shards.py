"""Speed of one run in two processes of one thread, beside one process of two threads and of one.

    python benchmarks/shards.py [RECIPE …] [--iterations 5] [--rounds 3] [--set KEY=VALUE] [--out FILE.json]

The ways take turns, so that other load on the machine meets all of them alike, and each is `flowrl train`, of whose
iterations the first, which allocates, is left out. The figure is environment steps per second of the clock: the median
over the iterations of all rounds. `2 x 1` has two shards, the others have one, so that the same batch is learned from;
`2 x 1, doubled` has two shards of the recipe's own number of environments. A table of less than a few rounds on a
machine that does other things is of no use: the load average is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flowrl.config import recipe
from flowrl.config.schema import load
from flowrl.evaluation.machine import machine

RECIPES = ("cheetah.yaml", "humanoid.yaml")


@dataclass(frozen=True)
class Way:
    """A way to train a recipe on two cores."""

    name: str
    processes: int
    threads: int
    shards: int
    envs: int = 1  # times the recipe's number

    def words(self, count: int) -> list[str]:
        """The options of `flowrl train`, for a recipe with `count` environments."""
        keys = {"threads": self.threads, "shards": self.shards, "env.count": self.envs * count}
        keys["env.threads"] = self.threads
        words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
        return [*words, *(["--processes", str(self.processes)] if self.processes > 1 else [])]


WAYS = (
    Way("1 x 1", processes=1, threads=1, shards=1),
    Way("1 x 2", processes=1, threads=2, shards=1),
    Way("2 x 1", processes=2, threads=1, shards=2),
    Way("2 x 1, doubled", processes=2, threads=1, shards=2, envs=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--iterations", type=int, default=5, help="after the first one, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipes")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": asdict(machine()), "load": os.getloadavg(), "recipes": {}}
    for name in options.recipes:
        speeds: dict[str, list[float]] = {way.name: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                speeds[way.name] += measured(name, way, options.iterations, options.set)
        figures["recipes"][name] = {way: {"median": median(values), "all": values} for way, values in speeds.items()}
        slowest = median(speeds[WAYS[0].name])
        print(f"{name}, load {os.getloadavg()[0]:.1f} (processes x threads: env steps per second)")
        for shown, values in speeds.items():
            print(f"  {shown:<16}{median(values):10,.0f}{median(values) / slowest:8.2f} x   ({len(values)} iterations)")
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


def measured(name: str, way: Way, iterations: int, settings: list[str]) -> list[float]:
    """Environment steps per second of each iteration of a training but the first."""
    config = load(recipe.apply(recipe.read(name), settings))
    steps = (1 + iterations) * way.envs * config.env.count * config.rollout.steps
    own = [*settings, f"total_steps={steps}", "checkpoint.every_s=1e6", "checkpoint.best_over=0", "trackers=[]"]
    words = ["train", name, *(word for setting in own for word in ("--set", setting)), *way.words(config.env.count)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(way.threads))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "flowrl", *words, "--json", "--out", folder, "--name", "run"],
            env=os.environ | limits,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["env_steps_per_s"] for line in lines[1:]]


if __name__ == "__main__":
    main()
