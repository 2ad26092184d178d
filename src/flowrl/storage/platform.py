"""The platform of a run: what decides the last bit of its numbers, besides its configuration.

A run that continues on the same platform is, bit for bit, the one that was never interrupted. Another version of
PyTorch or MuJoCo, another instruction set, another number of PyTorch's threads or another device sums in another
order, which changes last bits.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import torch

from flowrl.contracts.printable import printable

NAMES = {
    "torch": "PyTorch",
    "mujoco": "MuJoCo",
    "numpy": "NumPy",
    "gymnasium": "Gymnasium",
    "machine": "machine",
    "instructions": "instruction set",
    "threads": "threads",
    "device": "device",
    "env_mode": "env.mode",
}
"""Key of a platform -> its name in messages."""


def platform_of(device: torch.device, env_mode: str) -> dict[str, Any]:
    """Describe the platform of this process, as plain values with the keys of `NAMES`.

    The networks live on `device`; `env_mode` is how the environments are stepped, `auto` resolved.
    """
    return {
        "torch": str(torch.__version__),
        **{package: _version(package) for package in ("mujoco", "numpy", "gymnasium")},
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "env_mode": env_mode,
    }


def recorded(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the platform in a checkpoint's `content`; nothing for one from before it was recorded."""
    found = content.get("platform")
    return found if isinstance(found, Mapping) else {}


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return 'PyTorch 2.12 before, 2.13 now' for what differs between two platforms; what one does not name is equal.

    A process per environment (async) steps as one process for all (sync) does, to the last bit.
    """
    both = [(name, _text(saved[key]), _text(now[key])) for key, name in NAMES.items() if key in saved and key in now]
    return [f"{name} {old} before, {new} now" for name, old, new in both if _numeric(old) != _numeric(new)]


def in_words(platform: Mapping[str, Any]) -> str:
    """Return 'PyTorch 2.13, MuJoCo 4.0, …' for the keys of `NAMES` that `platform` has."""
    return ", ".join(f"{name} {_text(platform[key])}" for key, name in NAMES.items() if key in platform)


@cache
def _version(package: str) -> str:
    return metadata.version(package)


def _numeric(text: str) -> str:
    return "sync" if text == "async" else text


def _text(value: object) -> str:
    """Return a value, which may come from anyone's file, as printable text."""
    return printable(str(value)[:60])
