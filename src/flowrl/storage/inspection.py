"""The content of a checkpoint as plain values and as text; no model is built."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flowrl.storage import checkpoint, platform

NETWORKS = ("actor", "critic", "average")

Facts = list[tuple[str, str]]


def inspect(path: Path | str) -> dict[str, Any]:
    """Verify every byte of the checkpoint at `path` and describe its content as plain JSON values, None for what it
    does not hold; raises CheckpointError."""
    found = checkpoint.find(path)
    content, digest = checkpoint.load_with_digest(found)
    config = content["config"]
    tensors = {section: dict(_tensors(value)) for section, value in content.items()}
    env = config.get("env")
    return {
        "path": str(found),
        "bytes": found.stat().st_size,
        "sha256": digest,
        "format": content["format"],
        "flowrl": content["flowrl"],
        "algorithm": config.get("algorithm"),
        "env": env.get("id") if isinstance(env, dict) else env,
        "sampler": _shown(config.get("sampler")),
        "code": _shown(content.get("code", {})) or None,
        "platform": _shown(platform.recorded(content)) or None,
        "initial_weights": content.get("initial_weights"),
        "distilled": _shown(content.get("distilled")),
        "progress": _shown(content["progress"]),
        "networks": {
            name: {
                "parameters": sum(tensor.numel() for tensor in tensors[name].values()),
                "tensors": {
                    key: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
                    for key, tensor in tensors[name].items()
                },
            }
            for name in NETWORKS
            if tensors.get(name)
        },
        "tensor_bytes": {
            section: sum(tensor.nbytes for tensor in held.values()) for section, held in tensors.items() if held
        },
        "config": _shown(config),
    }


def sections(inventory: dict[str, Any]) -> list[tuple[str, Facts]]:
    """Return the result of `inspect` as text: headings, and below each (name, value) pairs."""
    tensors = ", ".join(f"{name} {_size(size)}" for name, size in inventory["tensor_bytes"].items())
    found: list[tuple[str, dict[str, Any]]] = [
        (
            f"{inventory['path']}: sound",
            {
                "size": _size(inventory["bytes"]),
                "sha256": inventory["sha256"],
                "format": f"{inventory['format']} (flowrl {inventory['flowrl']})",
                "algorithm": inventory["algorithm"],
                "env": inventory["env"],
                "sampler": inventory["sampler"],
                "code": ", ".join(
                    f"{name} (sha256 {digest[:8]}…)" for name, digest in (inventory["code"] or {}).items()
                ),
                "initial weights": _initial_weights(inventory["initial_weights"]),
                "distilled": _distilled(inventory["distilled"]),
                "saved under": platform.in_words(inventory["platform"] or {}),
                "tensors": tensors,
            },
        ),
        ("progress", inventory["progress"]),
    ]
    for name, network in inventory["networks"].items():
        shapes = {
            key: f"{'x'.join(map(str, tensor['shape'])) or 'scalar'}  {tensor['dtype']}"
            for key, tensor in network["tensors"].items()
        }
        found.append((f"{name}: {network['parameters']:,} parameters", shapes))
    return [
        (heading, [(str(key), _inline(value)) for key, value in facts.items() if value not in (None, "")])
        for heading, facts in found
    ]


def _initial_weights(origin: dict[str, Any] | None) -> str:
    """Return in words which checkpoint the run began with, or '' for a run that began with new weights."""
    if origin is None:
        return ""
    known = {name: _inline(value) for name, value in origin.items()}
    critic = "" if origin.get("critic") else ", without its critic"
    return (
        f"{known.get('path')} ({known.get('algorithm')} on {known.get('env')}, {known.get('env_steps')} env steps, "
        f"sha256 {str(known.get('sha256'))[:16]}…){critic}"
    )


def _distilled(origin: dict[str, Any] | None) -> str:
    """Return in words what a distilled network was distilled from, or ''."""
    if origin is None:
        return ""
    known = {name: _inline(value) for name, value in origin.items()}
    return f"{known.get('target')} of sha256 {str(known.get('of'))[:16]}…, to {known.get('nfe')} evaluations per action"


def _tensors(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Return (dotted key, tensor) for every tensor in the nested `value`."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [pair for name, item in items for pair in _tensors(item, f"{key}.{name}" if key else str(name))]
    return [(key, value)] if hasattr(value, "numel") else []


def _shown(value: Any) -> Any:
    """Convert `value` for JSON and YAML: tensors become their shape, tuples become lists."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return f"tensor {list(value.shape)}" if hasattr(value, "numel") else value


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(item)}" for key, item in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "none yet"  # the best of no returns
    return str(value)


def _size(count: int) -> str:
    if count < 1e3:
        return f"{count} B"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
