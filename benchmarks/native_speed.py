"""Environment steps per second of Gymnasium's MuJoCo environments: stepped natively, beside by Gymnasium.

    python benchmarks/native_speed.py [ID ...] [--counts 32 256] [--turns 15] [--out FILE.json]

Both go through flowrl's adapter, under the same random actions, falls and restarts included: `batch` on all cores
(env.mode=batch), `sync` one after another (env.mode=sync). They take short turns, and the medians of the turns and
of the turns' ratios count, so that other work on the machine weighs on both alike. "per CPU" are env steps per
processor second: what remains where other work takes the other cores. "Python" is the share of its time that
the native way spends outside the physics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import make
from flowrl.envs.gymnasium_mujoco.family import IDS
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.vector_env import TaskVectorEnv
from flowrl.evaluation.machine import machine

TURN_SECONDS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", default=IDS, metavar="ID")
    parser.add_argument("--counts", nargs="+", type=int, default=[32, 256], help="environments together")
    parser.add_argument("--turns", type=int, default=15, help="of each way")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("batch/s", "sync/s", "ratio", "batch per CPU", "sync per CPU", "ratio", "Python")
    print(f"{'':<28}" + "".join(f"{column:>14}" for column in columns))
    rows = []
    for id in options.ids:
        for count in options.counts:
            row = measure(id, count, options.turns)
            rows.append(row)
            cells = (
                *(f"{row['batch']['per_s']:,.0f}", f"{row['sync']['per_s']:,.0f}", f"{row['ratio']:.2f}"),
                *(f"{row['batch']['per_cpu_s']:,.0f}", f"{row['sync']['per_cpu_s']:,.0f}"),
                *(f"{row['ratio_per_cpu']:.2f}", f"{row['python_share']:.0%}"),
            )
            print(f"{id:<25}{count:>3}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    if options.out is not None:
        facts = {"machine": asdict(machine()), "turns": options.turns}
        options.out.write_text(json.dumps(facts | {"load": os.getloadavg(), "rows": rows}, indent=2) + "\n")


def measure(id: str, count: int, turns: int) -> dict[str, Any]:
    """One row: medians over the turns."""
    batch, sync = started(id, count, "batch"), started(id, count, "sync")
    physics = clocked(batch)
    actions = torch.rand(64, count, batch.action_size, generator=torch.manual_seed(0)) * 2 - 1
    number = max(2, int(TURN_SECONDS / run(sync, actions[:3])[0]))
    ways: dict[str, list[tuple[float, float]]] = {"batch": [], "sync": []}
    shares = []
    for turn in range(turns):
        taken = actions[torch.arange(turn, turn + number) % len(actions)]
        physics.clear()
        ways["batch"].append(run(batch, taken))
        shares.append(1 - sum(physics) / number / ways["batch"][-1][0])
        ways["sync"].append(run(sync, taken))
    for env in (batch, sync):
        env.close()
    row: dict[str, Any] = {"id": id, "count": count, "python_share": median(shares)}
    for way, seconds in ways.items():
        wall, cpu = (median(column) for column in zip(*seconds, strict=True))
        row[way] = {"per_s": count / wall, "per_cpu_s": count / cpu}
    for name, column in (("ratio", 0), ("ratio_per_cpu", 1)):
        pairs = zip(ways["batch"], ways["sync"], strict=True)
        row[name] = median(theirs[column] / ours[column] for ours, theirs in pairs)
    return row


def started(id: str, count: int, mode: Literal["batch", "sync"]) -> Adapter:
    env = make(EnvSettings(id=id, count=count, mode=mode))
    env.reset(seed=0)
    return env


def clocked(env: Adapter) -> list[float]:
    """The seconds of every call of the physics of a native environment from now on."""
    vector = env._envs
    assert isinstance(vector, TaskVectorEnv)
    simulation, seconds = vector.runner.simulation, []
    step = simulation.step

    def timed(substeps: int = 1, rows: torch.Tensor | None = None) -> None:
        begun = time.perf_counter()
        step(substeps, rows)
        seconds.append(time.perf_counter() - begun)

    simulation.step = timed  # type: ignore[method-assign]
    return seconds


def run(env: Adapter, actions: torch.Tensor) -> tuple[float, float]:
    """Wall and processor seconds per step of all environments."""
    wall, cpu = time.perf_counter(), time.process_time()
    for action in actions:
        env.step(action)
    return (time.perf_counter() - wall) / len(actions), (time.process_time() - cpu) / len(actions)


if __name__ == "__main__":
    main()
