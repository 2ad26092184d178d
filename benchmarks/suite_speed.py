"""Environment steps per second of the control tasks, beside the physics alone and other implementations.

    python benchmarks/suite_speed.py [TASK ...] [--others PYTHON] [--out FILE.json]

256 environments on all cores under the same random actions. "raw" is `mujoco.batch.Batch.step` on the same model
from the same states, without observation, reward or episodes: what an environment can reach at best. The two take
short turns, and the median of the turns' ratios counts, so that other work on the machine weighs on both alike.
Starts of episodes, once in 1000 steps, are not in the rates; "start" is what one of all environments costs.
envpool (256 environments too) and dm_control (one environment, one thread) take their turns in between, in processes
of their own: `--others` is the Python of an environment where they are installed, with the older MuJoCo they need.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from mujoco.batch import Batch

from flowrl.envs.dm_control.environment import DMControlVectorEnv
from flowrl.envs.dm_control.tasks import TASKS
from flowrl.evaluation.machine import machine

COUNT = 256
TURNS = 40
TURN_SECONDS = 0.05
# steps of each turn before the clock runs: threads that slept through the others' turns have to wake
WARMING = 3
NO_SCREEN = {"MUJOCO_GL": "disabled"}  # dm_control would look for one

# envpool's id; dm_control's domain and task
OTHERS = {
    "BallInCup": ("BallInCupCatch-v1", "ball_in_cup", "catch"),
    "CartpoleBalance": ("CartpoleBalance-v1", "cartpole", "balance"),
    "CheetahRun": ("CheetahRun-v1", "cheetah", "run"),
    "FingerSpin": ("FingerSpin-v1", "finger", "spin"),
    "FingerTurnEasy": ("FingerTurnEasy-v1", "finger", "turn_easy"),
    "FingerTurnHard": ("FingerTurnHard-v1", "finger", "turn_hard"),
    "FishSwim": ("FishSwim-v1", "fish", "swim"),
    "PointMass": ("PointMassEasy-v1", "point_mass", "easy"),
    "ReacherEasy": ("ReacherEasy-v1", "reacher", "easy"),
    "ReacherHard": ("ReacherHard-v1", "reacher", "hard"),
}


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def steps(step: Callable[[Any], Any], actions: Any) -> float:
    """Seconds per step over `actions` (steps, count, action), but the first WARMING."""
    for action in actions[:WARMING]:
        step(action)
    started = time.perf_counter()
    for action in actions[WARMING:]:
        step(action)
    return (time.perf_counter() - started) / (len(actions) - WARMING)


def stepper(task: str, suite: DMControlVectorEnv) -> Callable[[Any], None]:
    """The physics alone, from the present states of `suite`."""
    kind, profiles = TASKS[task]
    simulation = suite.runner.simulation
    batch = Batch(simulation.model, COUNT)
    for field in kind.varied:
        batch.expand(field)[:] = simulation.expand(field).numpy()
    batch.state[:] = simulation.snapshot()["state"].numpy()
    control, substeps = batch.bind("ctrl"), profiles["dmc"].substeps

    def step(action: Any) -> None:
        control[:] = action
        batch.step(nstep=substeps)

    return step


class Peer:
    """Another implementation in a process of its own; `rates` are its env steps per second, a turn each.

    Between its turns it is stopped: threads that wait for work by spinning would take the cores from the others.
    """

    def __init__(self, python: Path, name: str, task: str, count: int) -> None:
        self.count, self.rates, self._steps = count, list[float](), 10
        command = [str(python), str(Path(__file__).with_name("suite_peers.py")), name, task, str(count)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=os.environ | NO_SCREEN
        )
        self.runs = self._answer() == "ready"
        self._process.send_signal(signal.SIGSTOP)

    def turn(self) -> None:
        """Step for about TURN_SECONDS."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        print(self._steps, file=self._process.stdin, flush=True)
        spent = float(self._answer())
        self._process.send_signal(signal.SIGSTOP)
        self.rates.append(self.count * self._steps / spent)
        self._steps = max(1, round(self._steps * TURN_SECONDS / spent))

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def peers_of(task: str, python: Path | None) -> dict[str, Peer]:
    """What of envpool and dm_control runs under `python`; the first turns are not counted."""
    if python is None:
        return {}
    envpool, *names = OTHERS[task]
    peers = {
        "envpool": Peer(python, "envpool", envpool, COUNT),
        "dm_control": Peer(python, "dm_control", "/".join(names), 1),
    }
    running = {name: peer for name, peer in peers.items() if peer.runs}
    for peer in running.values():
        for _ in range(3):
            peer.turn()
        peer.rates.clear()
    return running


def measure(task: str, python: Path | None) -> dict[str, Any]:
    """Medians over the turns, of all that take part; rates in env steps per second."""
    suite = DMControlVectorEnv(task, COUNT)
    suite.reset(seed=0)
    start = median(seconds(suite.reset) for _ in range(5))
    raw = stepper(task, suite)
    random = np.random.default_rng(0)
    shape = (COUNT, suite.runner.action_size)
    probe = random.uniform(-1, 1, (WARMING + 5, *shape)).astype(np.float32)
    number = WARMING + max(2, int(TURN_SECONDS / steps(raw, probe)))
    number = min(number, suite.max_episode_steps // TURNS - 1)
    raw = stepper(task, suite)
    peers = peers_of(task, python)
    ours, theirs = [], []
    for _ in range(TURNS):
        actions = random.uniform(-1, 1, (number, *shape)).astype(np.float32)
        ours.append(steps(suite.step, actions))
        theirs.append(steps(raw, actions))
        for peer in peers.values():
            peer.turn()
    row: dict[str, Any] = {
        "task": task,
        "per_s": COUNT / median(ours),
        "raw_per_s": COUNT / median(theirs),
        "share_of_raw": median(other / own for own, other in zip(ours, theirs, strict=True)),
        "start_ms": start * 1e3,
    }
    for name, peer in peers.items():
        peer.close()
        row[f"{name}_per_s"] = median(peer.rates)
    return row


def shown(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--others", type=Path, metavar="PYTHON", help="a Python with envpool and dm_control")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    columns = ("env/s", "raw/s", "ratio", "start ms", "envpool/s", "dm_control/s")
    print(f"{'':<16}" + "".join(f"{column:>14}" for column in columns))
    rows = []
    for task in options.tasks:
        row = measure(task, options.others)
        rows.append(row)
        cells = (shown(row["per_s"]), shown(row["raw_per_s"]), f"{row['share_of_raw']:.2f}")
        others = (shown(row.get(f"{name}_per_s")) for name in ("envpool", "dm_control"))
        line = (*cells, f"{row['start_ms']:.0f}", *others)
        print(f"{task:<16}" + "".join(f"{cell:>14}" for cell in line), flush=True)
    if options.out is not None:
        facts = {"machine": asdict(machine()), "load": os.getloadavg()}
        options.out.write_text(json.dumps(facts | {"envs": COUNT, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
