"""The machine of a measurement, and whether it was quiet enough for the figures to be good."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

OWN_SHARE = 0.9  # of the wall time: the least processor time of our process for good figures
OTHERS_SHARE = 0.25  # of the cores: the most that other programs may use meanwhile


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement."""

    processor: str
    cores: int  # that this process may use
    threads: int  # of PyTorch, inside one operation
    torch: str
    python: str
    system: str


def machine() -> Machine:
    """Describe this machine, with the present settings of PyTorch."""
    return Machine(
        processor=_processor(),
        cores=len(cores()),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


@dataclass(frozen=True)
class Verdict:
    """Whether the figures of a measurement are good, and what the machine did meanwhile."""

    good: bool
    reason: str  # why not, in one line; empty when good
    load_before: float | None  # average length of the run queue over a minute; None where unknown
    load_after: float | None
    others: float | None  # cores that other programs used meanwhile; None where unknown
    cpu_share: float  # processor seconds per second of wall time, of at least nine measurements in ten


class LoadMonitor:
    """Measures the load of the machine from construction to `verdict`."""

    def __init__(self) -> None:
        self._load = load()
        self._start = (time.monotonic(), _own_seconds(), _busy_seconds())

    def verdict(self, cpu_shares: Sequence[float]) -> Verdict:
        """Judge the time since construction; `cpu_shares` are the processor seconds per second of wall time of each
        measurement."""
        wall, cpu, busy = self._start
        others = None
        busy_now = _busy_seconds()
        if busy is not None and busy_now is not None:
            used = (busy_now - busy) - (_own_seconds() - cpu)
            others = max(0.0, used / (time.monotonic() - wall))
        # One measurement in ten may be disturbed; its percentiles show it.
        cpu_share = sorted(cpu_shares)[len(cpu_shares) // 10] if cpu_shares else 1.0
        return judge(len(cores()), self._load, load(), others, cpu_share)


def judge(
    core_count: int, load_before: float | None, load_after: float | None, others: float | None, cpu_share: float
) -> Verdict:
    """Judge a measurement by `others` where known, else by the load before it, and by our own processor share."""
    limit = OTHERS_SHARE * core_count
    queue = "" if load_before is None else f"load {load_before:.1f} on {core_count} cores, "
    reason = ""
    if others is not None and others > limit:
        reason = f"{queue}other programs used {others:.1f} cores meanwhile"
    elif others is None and load_before is not None and load_before > limit:
        reason = f"{queue}before the measurement began"
    elif cpu_share < OWN_SHARE:
        reason = f"{queue}this process had the processor for only {cpu_share:.0%} of the time"
    return Verdict(not reason, reason, load_before, load_after, others, cpu_share)


def load() -> float | None:
    """Return the processes running or waiting to run, averaged over the last minute; None where unknown."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def cores() -> list[int]:
    """Return the numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _own_seconds() -> float:
    """Return the processor seconds of this process and of those that it has waited for, such as a compiler. Of a
    process that ends within a measurement but began before it, all count."""
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    """Return the busy seconds since boot of the cores that we may use (Linux: /proc/stat), or None."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        ticks_per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    ours = {f"cpu{core}" for core in cores()}
    ticks = 0
    for name, *columns in (line.split() for line in lines if line.startswith("cpu")):
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, columns[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / ticks_per_second if ticks else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
