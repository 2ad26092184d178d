"""Kill a training with SIGKILL at random instants, go on, and compare with the run that was never killed.

    python benchmarks/attacks/kill_anywhere.py --settings 40 --kills 2

Every entry of the last ckpt.pt must be equal bit for bit, but for the clock; metrics.jsonl must hold every iteration
once. Prints what differs, and exits with 1 if anything does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from processes import flowrl, warm_up

from flowrl.storage import checkpoint

CLOCK = {"seconds"}


def settings(count: int) -> list[tuple[str, list[str]]]:
    """Recipe and overrides of every setting."""
    tiny = ["policy.hidden=[8]", "learner.critic.hidden=[8]", "rollout.steps=8", "env.count=4"]
    recipes = ["gridworld.yaml", "pendulum.yaml", "cheetah.yaml", "hopper.yaml", "humanoid.yaml"]
    algorithms, saves = ["fpo", "ppo", "fpo++"], ["0", "0.2", "1000"]
    modes = {"pendulum.yaml": ["sync", "async"]}
    every = [
        (recipe, [*tiny, f"algorithm={algorithm}", f"checkpoint.every_s={every_s}", f"env.mode={mode}"])
        for recipe, algorithm, every_s in itertools.product(recipes, algorithms, saves)
        for mode in modes.get(recipe, ["auto"])
    ]
    random.Random(1).shuffle(every)  # noqa: S311
    return every[:count]


def train(arguments: list[str], folder: Path, kill_after: float | None) -> int:
    """Run `flowrl train` in a fork; end it and its children with SIGKILL after so many seconds."""
    outcome = flowrl(["train", *arguments], folder, 600.0 if kill_after is None else kill_after)
    if outcome.code not in (0, -signal.SIGKILL):
        print(outcome.output[-1000:])
    return outcome.code


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Everything in a checkpoint by its dotted key."""
    if isinstance(value, dict):
        items = [(f"{path}.{key}", item) for key, item in value.items() if key not in CLOCK]
    elif isinstance(value, list | tuple):
        items = [(f"{path}.{number}", item) for number, item in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for at, item in items for name, leaf in leaves(item, at).items()}


def differing(one: Path, other: Path) -> list[str]:
    """The keys in which two checkpoints differ."""
    a, b = leaves(checkpoint.load(one)), leaves(checkpoint.load(other))
    found = sorted(a.keys() ^ b.keys())
    for key in a.keys() & b.keys():
        x, y = a[key], b[key]
        equal = torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y or (x != x and y != y)
        if not equal and key not in (".metrics_offset", ".config.checkpoint"):
            found.append(key)
    return found


def iterations(run: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="the number of the first setting, to go on from there")
    parser.add_argument("--kills", type=int, default=2, help="per setting")
    parser.add_argument("--iterations", type=int, default=60, help="of a run; of the humanoid's a third")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, faults, kills, unsaved = random.Random(options.seed), 0, 0, 0  # noqa: S311
    warm_up()
    import torch.utils.tensorboard  # noqa: F401  which takes seconds

    for number, (recipe, overrides) in list(enumerate(settings(options.settings)))[options.first :]:
        steps = 32 * options.iterations // (3 if "humanoid" in recipe else 1)
        sets = [part for override in [*overrides, f"total_steps={steps}"] for part in ("--set", override)]
        with tempfile.TemporaryDirectory(prefix="killed-") as scratch:
            folder = Path(scratch)
            begin = time.monotonic()
            code = train([recipe, "--name", "straight", *sets], folder, None)
            seconds = time.monotonic() - begin
            killed, wrong = folder / "runs" / "killed", []
            for attempt in range(options.kills + 1):
                resumable = (killed / "ckpt.pt").exists()
                again = ["--resume", str(killed)] if resumable else [recipe, "--name", "killed", *sets]
                last = attempt == options.kills
                code = train(again, folder, None if last else draw.uniform(0.0, 1.0) * seconds)
                kills += code == -signal.SIGKILL
                unsaved += not (killed / "ckpt.pt").exists()
                if code not in (0, -signal.SIGKILL):
                    wrong.append(f"exit code {code} of train {' '.join(again)}")
            if not wrong:
                wrong = differing(folder / "runs" / "straight" / "ckpt.pt", killed / "ckpt.pt")
                if iterations(killed) != iterations(folder / "runs" / "straight"):
                    wrong.append("metrics.jsonl")
        faults += bool(wrong)
        print(f"{number} {recipe} {' '.join(overrides[4:])}: {', '.join(wrong[:5]) or 'equal'}", flush=True)
    print(f"{kills} kills, {unsaved} of them before the first save; {faults} settings differ")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
