"""MuJoCo Warp as an optional package: its import, its device, and its cache of compiled kernels."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.contracts.installing import reinstall
from flowrl.contracts.notices import say

PATIENCE = 2.0
"""Seconds after which the compiling of kernels is reported: what comes from the cache is faster."""

CPU_FLAGS = "-march=native"
"""Options of the compiler for kernels on the CPU. Warp's own inline so much that the first model takes 510 s of CPU
time to compile; with these and `CPU_OPTIMISATION` it takes 26 s."""

CPU_OPTIMISATION = 1


def installed() -> bool:
    """Return whether the packages are here; imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ("warp", "mujoco_warp"))


def load() -> tuple[Any, Any]:
    """Import Warp and MuJoCo Warp; raises MissingDependency, with the line to type, without them.

    Kernels are kept in ~/.cache/flowrl/warp (or where XDG_CACHE_HOME says), unless WARP_CACHE_PATH or the program has
    chosen another folder. Warp prints only errors: its own lines would go to stdout.
    """
    if not installed():
        raise MissingDependency(
            f"env.simulator=warp: MuJoCo Warp is not installed. Type: {reinstall('gpu')}, or --set "
            "env.simulator=mujoco to simulate on the CPU."
        )
    warp = import_module("warp")
    if warp.config.kernel_cache_dir is None and not os.environ.get("WARP_CACHE_PATH"):
        warp.config.kernel_cache_dir = str(cache_folder())
        warp.config.log_level = warp.LOG_ERROR
    return warp, import_module("mujoco_warp")


def cache_folder() -> Path:
    """Return the folder of compiled kernels: ~/.cache/flowrl/warp, or where XDG_CACHE_HOME says."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "flowrl" / "warp"


def device_of(name: str, warp: Any) -> torch.device:
    """Return the device called `name`, with `auto` resolved; raises UsageError for a GPU that is not there."""
    usable = torch.cuda.is_available() and warp.is_cuda_available()
    number = int(name.partition(":")[2] or 0)
    if name == "cpu" or (name == "auto" and not usable):
        return torch.device("cpu")
    if usable and number < torch.cuda.device_count():
        return torch.device("cuda", number)
    reason = (
        "this PyTorch finds no usable GPU: install a CUDA build of it"
        if not torch.cuda.is_available()
        else "Warp finds no usable GPU: it needs a newer NVIDIA driver"
        if not warp.is_cuda_available()
        else f"there are {torch.cuda.device_count()} GPUs, numbered from 0"
    )
    raise UsageError(f"env.warp.device={name}: {reason}. Type --set env.warp.device=auto for what there is.")


def compile_for(device: torch.device, warp: Any) -> None:
    """Set how kernels for `device` are compiled; what the program has set itself stays."""
    if device.type == "cpu" and "inline-threshold" in (warp.config.cpu_compiler_flags or ""):
        warp.config.cpu_compiler_flags = CPU_FLAGS
        if warp.config.optimization_level is None:
            warp.config.optimization_level = CPU_OPTIMISATION


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Say on stderr that kernels of `what` are being compiled, where that takes longer than `PATIENCE`."""
    began = time.monotonic()
    line = f"compiling the kernels of MuJoCo Warp for {what}, once: this takes up to some minutes"
    timer = threading.Timer(PATIENCE, say, (line,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    if (seconds := time.monotonic() - began) > PATIENCE:
        say(f"compiled in {seconds:.0f} s, and kept in {cache_folder()}")
