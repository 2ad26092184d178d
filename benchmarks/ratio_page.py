"""What the ratio measures along training: exact and CFM log-ratios at its beginning, middle and end, FPO and PPO.

    python benchmarks/ratio_page.py --out runs/ratio                   every task, 3 seeds: two hours on one core
    python benchmarks/ratio_page.py --out runs/ratio --tasks pendulum  one task
    python benchmarks/ratio_page.py --out runs/ratio --report docs/results

Each run is trained in this process and saved after 5, 50 and 95 % of its steps; `flowrl ratio` examines the update that
follows. What is there is not made again. `--report` writes ratio.json and ratio.md of all that is there.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from flowrl.config import recipe, schema
from flowrl.experiments import ratio_study
from flowrl.experiments.build import Run
from flowrl.storage import checkpoint

MARKS = (0.05, 0.5, 0.95)  # of the steps
HOPPER = """\
total_steps: 300_000
env: {id: Hopper-v5, count: 64, squash: tanh}
policy: {hidden: [64, 64, 64]}
sampler: {name: euler, steps: 10}
rollout: {steps: 32}
learner: {gamma: 0.99, gae_lambda: 0.95, reward_scale: 0.1, epochs: 4, minibatches: 4, clip: 0.2, learning_rate: 2e-3,
          schedule: {kind: linear}, critic: {hidden: [128, 128]}}
fpo: {learner: {surrogate: mirror, advantage_floor: 0.2, probes: {count: 4, law: stratified}}}
"""
TASKS: dict[str, tuple[str, int, tuple[str, ...]]] = {  # recipe, env steps, keys
    "gridworld": ("gridworld.yaml", 65_536, ()),
    "pendulum": ("pendulum.yaml", 100_000, ()),
    "hopper": ("", 300_000, ()),
    "cheetah": ("cheetah.yaml", 600_000, ("learner.epochs=4",)),  # for PPO too, whose recipe has 8
}
GAUSSIAN = "fpo, Gaussian"  # a flow that carries noise to a Gaussian, and no other velocity
MIXTURE = "fpo, mixture"  # and to four of them
ALGORITHMS: dict[str, tuple[str, ...]] = {  # keys
    "fpo": ("algorithm=fpo", "policy.base=none", "policy.output_scale=0.25"),
    "ppo": ("algorithm=ppo",),
    GAUSSIAN: ("algorithm=fpo", "policy.base=normal", "policy.output_scale=0"),
    MIXTURE: ("algorithm=fpo", "policy.base=mixture", "policy.output_scale=0"),
}
HEADING = """\
# Exact and CFM log-ratios along training

One update of each checkpoint, the values of three seeds; [what they mean](../concepts/what_the_ratio_measures.md).
Standard deviations and movements are in nats.
"""
SEEDS = (0, 1, 2)


def config(task: str, algorithm: str, seed: int, folder: Path) -> schema.Config:
    """Return the configuration of a run."""
    source, steps, keys = TASKS[task]
    if not source:
        (folder / "hopper.yaml").write_text(HOPPER)
        source = str(folder / "hopper.yaml")
    read = recipe.read(source)
    changes = (*ALGORITHMS[algorithm], *keys, f"seed={seed}", f"total_steps={steps}", "trackers=[]")
    return schema.load(recipe.apply(read, changes))


def folder_of(out: Path, task: str, algorithm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{task}-{algorithm.replace(', ', '-').lower()}-s{seed}"


def train(settings: schema.Config, files: list[Path]) -> None:
    """Train, and save a checkpoint at each of `MARKS` to `files`."""
    run = Run(settings)
    run.start()
    waiting = list(zip(MARKS, files, strict=True))
    while waiting:
        run.training.iterate()
        if run.training.env_steps >= waiting[0][0] * settings.total_steps:
            checkpoint.save(waiting.pop(0)[1], run.content(0))
    run.env.close()


def measure(out: Path, task: str, algorithm: str, seed: int) -> None:
    """Make the checkpoints and the studies of one run that are not there."""
    folder = folder_of(out, task, algorithm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{round(100 * mark)}.pt" for mark in MARKS]
    if not all(file.exists() for file in files):
        train(config(task, algorithm, seed, out), files)
    for file in files:
        study = file.with_suffix(".json")
        if not study.exists():
            found = ratio_study.study(
                file, updates=1, actions=512, probes=[4, 16], weightings=["u", "eps", "elbo"], seed=0
            )
            study.write_text(json.dumps(found.document()) + "\n")
    print(f"{folder.name}: done", flush=True)


def report(out: Path, to: Path) -> None:
    """Write ratio.json, every number, and ratio.md, a table of the values of all seeds; what ratio.json holds of runs
    that are not in `out` is kept."""
    known = json.loads((to / "ratio.json").read_text()) if (to / "ratio.json").exists() else []
    kept = {(each["task"], each["algorithm"], each["mark"]): each for each in known}
    found: list[dict[str, Any]] = []
    for task in TASKS:
        for algorithm in ALGORITHMS:
            for mark in MARKS:
                paths = [folder_of(out, task, algorithm, seed) / f"{round(100 * mark)}.json" for seed in SEEDS]
                studies = [json.loads(path.read_text()) for path in paths if path.exists()]
                if studies:
                    found.append({"task": task, "algorithm": algorithm, "mark": mark, "studies": studies})
                elif (task, algorithm, mark) in kept:
                    found.append(kept[task, algorithm, mark])
    for each in found:
        for study in each["studies"]:
            for name in ("points", "checkpoint", "code"):
                study.pop(name, None)
    (to / "ratio.json").write_text(json.dumps(found, indent=1) + "\n")
    heads = [
        "task", "algorithm", "trained", "exact std", "exact with advantage", "exact along", "u correlation", "u slope",
        "u with advantage", "ELBO slope", "gap", "noise of 4 probes: stratified", "pairs", "continuous correlation",
    ]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(cells(each))} |" for each in found]
    (to / "ratio.md").write_text("\n".join([HEADING, *lines]) + "\n")
    print("\n".join(lines))


def cells(each: dict[str, Any]) -> list[str]:
    """Return the cells of one line: the values of the seeds."""
    studies = each["studies"]

    def row(study: dict[str, Any], name: str) -> dict[str, Any]:
        return next((row for row in study["rows"] if row["name"].startswith(name)), {})

    def listed(name: str, key: str) -> str:
        return joined([row(study, name).get(key) for study in studies])

    def noise(law: str) -> str:
        def of(study: dict[str, Any]) -> float | None:
            found = (
                n for n in study["noise"] if n.get("weighting", "u") == "u" and (n["probes"], n["law"]) == (4, law)
            )
            return next((each["noise"] for each in found), None)

        return joined([of(study) for study in studies])

    u = "CFM, weighting u"
    return [
        each["task"], each["algorithm"], f"{each['mark']:.0%}",
        listed("exact", "std"), listed("exact", "with_advantage"), listed("exact", "along_advantage"),
        listed(u, "correlation"), listed(u, "slope"), listed(u, "with_advantage"), listed("elbo", "slope"),
        joined([study["gap"] for study in studies]), noise("stratified"), noise("stratified, pairs"),
        listed("continuous", "correlation"),
    ]  # fmt: skip


def joined(values: list[float | None]) -> str:
    known = [f"{value:.2g}" for value in values if value is not None]
    return ", ".join(known) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--algorithms", default="fpo;ppo", help=f"of {'; '.join(ALGORITHMS)}")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if given.report is not None:
        report(given.out, given.report)
        return
    for task in given.tasks.split(","):
        for seed in map(int, given.seeds.split(",")):
            for algorithm in given.algorithms.split(";"):
                measure(given.out, task, algorithm, seed)


if __name__ == "__main__":
    main()
