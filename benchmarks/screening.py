"""Compositions of FPO, one run each on Hopper-v5: a first look, not a comparison.

    python benchmarks/screening.py --out runs/screening [--only exact,ppo] [--seeds 0,1]
    python benchmarks/screening.py --out runs/screening --report docs/results/screening.md

300,000 steps with the settings of the control suite; 64 episodes with full, half and zero noise (PPO: sampled, half the
spread, mean actions). What is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ratio_page import HOPPER

VARIANTS: dict[str, list[str]] = {
    "ppo": ["algorithm=ppo"],
    "fpo": [],
    "exact": ["learner.ratio=exact", "learner.surrogate=ppo"],
    "tail": ["learner.ratio=tail", "policy.perturbation=0.3", "learner.surrogate=ppo"],
    "coupled": ["learner.probes.coupled=true", "policy.perturbation=0.2"],
    "anti": ["learner.probes.antithetic=pair"],
    "colour": ["rollout.noise_correlation=0.5"],
    "mid": ["sampler.name=midpoint", "sampler.steps=5"],
    "anchor": ["learner.anchor=0.02", "sampler.name=midpoint", "sampler.steps=5"],
    "residual": ["policy.residual=true", "learner.critic.residual=true"],
}
HEADING = """\
# A first screening of compositions on Hopper-v5

`python benchmarks/screening.py`: 300,000 steps, 64 environments, the settings of the control suite (`mirror` 0.2 with
the averaged ratio for FPO, PPO-clip 0.2 for PPO, `exact` and `tail`), 64 episodes each. One run per seed, two seeds at
most: differences below a factor of 1.5 are chance. Seconds are wall time on two hyper-threads with other work.

| composition | keys | seed | full noise | half | zero, mean | seconds |
|---|---|---|---|---|---|---|
"""


def flowrl(*words: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run([sys.executable, "-m", "flowrl", *words], check=True, capture_output=True, text=True).stdout


def measure(out: Path, name: str, seed: int) -> None:
    """Train and evaluate one run unless it is there."""
    run = out / f"Hopper-v5-{name}-s{seed}"
    if (run / "screened.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "hopper.yaml").write_text(HOPPER)
    sets = [word for key in [*VARIANTS[name], "trackers=[]"] for word in ("--set", key)]
    flowrl("train", str(out / "hopper.yaml"), "--out", str(out), "--name", run.name, "--seed", str(seed), *sets)
    returns = {}
    for label, options in (
        ("full", ["--noise", "random"]),
        ("half", ["--noise-scale", "0.5"]),
        ("zero", ["--noise", "zero"]),
    ):
        returns[label] = json.loads(flowrl("eval", str(run), "--episodes", "64", "--json", *options))["return_mean"]
    (run / "screened.json").write_text(json.dumps(returns) + "\n")
    print(f"{run.name}: {returns}", flush=True)


def report(out: Path, page: Path) -> None:
    """Write the table of all runs that are there."""
    lines = []
    for name, keys in VARIANTS.items():
        for run in sorted(out.glob(f"Hopper-v5-{name}-s*")):
            if not (run / "screened.json").exists():
                continue
            found = json.loads((run / "screened.json").read_text())
            seconds = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
            cells = [name, ", ".join(f"`{key}`" for key in keys), run.name.rpartition("-s")[2]]
            cells += [f"{found[each]:.0f}" for each in ("full", "half", "zero")]
            lines.append(f"| {' | '.join([*cells, f'{seconds:.0f}'])} |")
    page.write_text(HEADING + "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    if given.report is not None:
        report(given.out, given.report)
        return
    for seed in map(int, given.seeds.split(",")):
        for name in given.only.split(","):
            measure(given.out, name, seed)


if __name__ == "__main__":
    main()
