"""`flowrl inspect CKPT`: what a checkpoint holds, after every byte of it was checked; no model is built."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flowrl.cli.output import next_command, print_json

NETWORKS = ("actor", "critic", "ema")


def inspect(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="A checkpoint, a run folder, or a name under runs/.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Check a checkpoint and print what it holds, without building a model."""
    from flowrl import checkpoint as checkpoints

    path = checkpoints.find(checkpoint)
    digest = checkpoints.verify(path)
    found = {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": digest,
        **description(checkpoints.load(path)),
    }
    if json:
        print_json(found)
    else:
        print("\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in report(found)))
    next_command(f"flowrl eval {path}")


def description(content: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint `content` says of itself, as plain JSON values; None for what it does not say."""
    config = content.get("config") or {}
    tensors = {section: dict(_tensors(value)) for section, value in content.items()}
    env = config.get("env")
    return {
        "format": content.get("format"),
        "flowrl": content.get("flowrl"),
        "algorithm": config.get("algorithm"),
        "env": env.get("id") if isinstance(env, dict) else env,
        "sampler": _shown(config.get("sampler")),
        "progress": _shown(content.get("progress")),
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
            section: sum(tensor.nbytes for tensor in found.values())
            for section, found in tensors.items()
            if found
        },
        "config": _shown(config),
    }


def report(found: dict[str, Any]) -> list[str]:
    """The lines that a person reads, from a `description` with path, bytes and sha256."""
    import yaml

    lines = [f"{found['path']}: sound", ""]
    lines += _table(
        {
            "size": _size(found["bytes"]),
            "sha256": found["sha256"],
            "format": f"{found['format']} (flowrl {found['flowrl']})",
            "algorithm": found["algorithm"],
            "env": found["env"],
            "sampler": _inline(found["sampler"]),
            "tensors": ", ".join(f"{name} {_size(size)}" for name, size in found["tensor_bytes"].items()),
        }
    )
    if isinstance(found["progress"], dict):
        lines += [
            "",
            "progress",
            *_table({key: _inline(value) for key, value in found["progress"].items()}, "  "),
        ]
    for name, network in found["networks"].items():
        shapes = {
            key: f"{'x'.join(map(str, tensor['shape'])) or 'scalar'}  {tensor['dtype']}"
            for key, tensor in network["tensors"].items()
        }
        lines += ["", f"{name}: {network['parameters']:,} parameters", *_table(shapes, "  ")]
    config = yaml.safe_dump(found["config"], sort_keys=False, allow_unicode=True)
    return [*lines, "", "config", *("  " + line for line in config.splitlines())]


def _tensors(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """(dotted key, tensor) of every tensor in nested `value`."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [
            pair for name, item in items for pair in _tensors(item, f"{key}.{name}" if key else str(name))
        ]
    return [(key, value)] if hasattr(value, "numel") else []


def _shown(value: Any) -> Any:
    """`value` as JSON and YAML can say it: tensors become their shape, tuples become lists."""
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
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _table(rows: dict[str, Any], indent: str = "") -> list[str]:
    """'key   value' lines with the values in one column, without the rows that have nothing to say."""
    width = max((len(str(key)) for key in rows), default=0)
    return [
        f"{indent}{key!s:<{width}}  {value}" for key, value in rows.items() if value not in (None, "", "None")
    ]
