"""What the comparisons with other tools share: processes in turns, and their options."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator


def run(command: list[str]) -> tuple[str, dict[str, float]]:
    """Run a command; return its stdout, wall and processor seconds, and the load before it."""
    load, started, before = os.getloadavg()[0], time.perf_counter(), _children_cpu()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexited with {done.returncode}:\n{done.stderr[-3000:]}")
    wall = time.perf_counter() - started
    return done.stdout, {"wall_s": wall, "cpu_s": _children_cpu() - before, "load_before": load}


def turns(rounds: int, peer: str) -> Iterator[tuple[int, str]]:
    """Yield the number of the round and whose turn it is, flowrl's or the peer's: the order alternates, so that a busy
    machine slows both alike."""
    for number in range(rounds):
        for side in ("flowrl", peer) if number % 2 == 0 else (peer, "flowrl"):
            yield number, side


def parser(description: str | None, peer: str, python: str, default: str = sys.executable) -> argparse.ArgumentParser:
    """Return a parser with the options `--PYTHON-python`, the interpreter that has the peer, --rounds and --side."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(f"--{python}-python", default=default, help=f"the interpreter that has {peer}")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--side", choices=[python], help=argparse.SUPPRESS)
    return made


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
