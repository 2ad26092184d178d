"""Forged checkpoints: one key of a real one changed, and the checksum made right again.

    python benchmarks/attacks/forged_checkpoints.py --count 400

For each forgery `flowrl eval`, `inspect` and `train --resume` must end by themselves, without a traceback, within a
gigabyte. Prints every fault and the number of them, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import copy
import io
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from processes import flowrl, warm_up

from flowrl.storage import checkpoint, integrity

GOLDEN = Path(__file__).parents[2] / "tests" / "data" / "checkpoints"
GONE = object()
Key = tuple[str | int, ...]


def keys(value: Any, at: Key = ()) -> Iterator[Key]:
    """Every key of nested containers, and one that does not exist yet; of long lists the first two."""
    if at:
        yield at
    if isinstance(value, dict):
        for name in (*value, "new"):
            yield from keys(value.get(name), (*at, name))
    elif isinstance(value, list | tuple):
        for number in range(min(2, len(value))):
            yield from keys(value[number], (*at, number))


def replacements(value: Any) -> list[Any]:
    """Wrong values for a key that holds `value`."""
    wrong = [GONE, None, "x", "\x1b]0;title\x07\x1b[2J", 10**10, 2**64, -1, 0, True, 1e308, float("nan")]
    wrong += [
        float("inf"),
        -float("inf"),
        (),
        2**200,
        [],
        {},
        [[]],
        {"a": 1},
        torch.zeros(3),
        torch.zeros(0),
        torch.full((2,), torch.nan),
    ]
    if isinstance(value, torch.Tensor):
        wrong += [value.double(), value.flatten()[:1], value.unsqueeze(0), torch.full_like(value, -1)]
    if isinstance(value, str):
        wrong += ["evil.py:Sampler", "a" * 10**6, "../../etc", "os:system"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        wrong += [10**9, 10**18, -(10**9), 1e-300]
    return wrong


def forged(content: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """A copy of `content` with one key changed."""
    return _changed(copy.deepcopy(content), key, value)


def _changed(holder: Any, key: Key, value: Any) -> Any:
    """`holder` with `value` at `key` inside it; a tuple on the way is replaced."""
    name, *below = key
    items: Any = list(holder) if isinstance(holder, tuple) else holder
    if below:
        items[name] = _changed(items[name], tuple(below), value)
    elif value is not GONE:
        items[name] = value
    elif isinstance(items, list) or name in items:
        del items[name]  # type: ignore[arg-type]
    return tuple(items) if isinstance(holder, tuple) else items


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with a checksum, as somebody does who need not keep to the schema."""
    file = io.BytesIO()
    torch.save(content, file)
    integrity.append_checksum(file)
    path.write_bytes(file.getvalue())


def forgeries(count: int, seed: int) -> Iterator[tuple[str, Key, Any]]:
    """`count` forgeries, the same for the same seed: every run and every top-level key gets its share."""
    draw = random.Random(seed)  # noqa: S311
    runs = sorted(path.parent.parent.name for path in GOLDEN.glob("*/run/ckpt.pt"))
    contents = {name: checkpoint.load(GOLDEN / name / "run" / "ckpt.pt") for name in runs}
    groups: dict[tuple[str, str | int], list[Key]] = {}
    for name, content in contents.items():
        for key in keys(content):
            groups.setdefault((name, key[0] if key[0] != "config" else f"config.{key[1:2]}"), []).append(key)
    order = sorted(groups, key=str)
    for number in range(count):
        name, _ = group = order[number % len(order)]
        key = draw.choice(groups[group])
        value: Any = contents[name]
        for part in key:
            value = value.get(part) if isinstance(value, dict) else value[part]
        yield name, key, draw.choice(replacements(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=60.0)
    options = parser.parse_args()
    warm_up()
    faults = tried = 0
    most = 0.0
    for number, (name, key, value) in enumerate(forgeries(options.count, options.seed)):
        with tempfile.TemporaryDirectory(prefix="forged-") as scratch:
            folder = Path(scratch)
            run = shutil.copytree(GOLDEN / name / "run", folder / "run")
            write(run / "ckpt.pt", forged(checkpoint.load(run / "ckpt.pt"), key, value))
            tried += 1
            commands = (
                ["eval", "run", "--episodes", "1"],
                ["inspect", "run"],
                ["train", "--resume", "run", "--set", "total_steps=2100"],
            )
            for command in commands:
                outcome = flowrl(command, folder, options.limit_s)
                most = max(most, outcome.megabytes)
                if outcome.fault or (folder / "PWNED").exists():
                    faults += 1
                    shown = "deleted" if value is GONE else repr(value)[:60]
                    last = outcome.output.strip().splitlines()[-2:]
                    print(f"{number} {name} {'.'.join(map(str, key))} = {shown}: {command[0]}: {outcome.fault}: {last}")
    print(f"{tried} forgeries, {faults} faults, at most {most:.0f} MB")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
