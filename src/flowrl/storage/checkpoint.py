"""`ckpt.pt`: everything to evaluate a policy and to continue its training, in one torch file.

A checkpoint is a dict of tensors and plain Python values (None, bool, int, float, str, list, tuple, dict):
anyone can open it with `torch.load(path, weights_only=True)`. A checksum (integrity.py) at its end reveals damage.
"""

from __future__ import annotations

import io
import pickle
import shlex
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flowrl import __version__
from flowrl.contracts import regular_files
from flowrl.contracts.errors import CheckpointError, StorageError, did_you_mean
from flowrl.storage import content as schema
from flowrl.storage import files, integrity, lock
from flowrl.storage.content import FORMAT
from flowrl.storage.older_formats import READABLE, upgraded
from flowrl.storage.value_checks import OutOfRange

LATEST = "ckpt.pt"
BEST = "best.pt"
RUNS = Path("runs")

MOST_BYTES = 4 * 10**9  # of a file
DEPTH = 66  # levels of nested containers
MOST_BITS = 256  # of a whole number
MOST_CHARACTERS = 1 << 20  # of a text
_SCALARS = (type(None), bool, int, float, str)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, atomically: at every instant `path` is the old or the complete new checkpoint.

    `content` is that of `flowrl.storage.content`; `format` and `flowrl` are filled in here. Tensors are stored on the
    CPU, detached, without the rest of a storage that they are a view of.
    Raises TypeError with the key of a value that is neither a tensor nor plain, and ValueError for content that `load`
    would refuse (both are bugs of flowrl, but for an OutOfRange, as after an overflow); StorageError when the file
    cannot be written, or would be too large to be loaded: then the old file is unchanged and no temporary file is left.
    """
    content = _plain({**content, "format": FORMAT, "flowrl": __version__})
    schema.check(content)
    file = io.BytesIO()
    torch.save(content, file)
    integrity.append_checksum(file)
    if file.tell() > MOST_BYTES:
        raise StorageError(
            f"the checkpoint {path} would have {file.tell() / 1e9:.1f} GB, and flowrl reads none of more than "
            f"{MOST_BYTES / 1e9:.0f} GB. The old file is unchanged. Use fewer environments (env.count), whose state "
            "is saved, or smaller networks."
        )
    try:
        files.write_bytes(path, file.getbuffer())
    except OSError as error:
        raise StorageError(
            f"the checkpoint {path} cannot be written: {error.strerror or error}. The old file is "
            "unchanged. Free some space, or choose a folder you may write to (--out)."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Return the content of the checkpoint file `path`, its tensors on the CPU. Nothing in the file is ever run.

    Raises CheckpointError when the file is damaged, foreign, compressed, missing, larger than 4 GB or otherwise not as
    `save` writes it, or an earlier version did; the content fits the schema of `flowrl.storage.content`, to which that
    of an older format is converted.
    """
    return load_with_digest(path)[0]


def load_with_digest(path: Path) -> tuple[dict[str, Any], str]:
    """Return the content of the checkpoint file `path`, as `load` does, and its checksum (sha256, hex)."""
    with _refusing(path):
        with regular_files.open_regular(path, MOST_BYTES) as file:
            integrity.check_ends(file)
        data = regular_files.read_bounded(path, MOST_BYTES)
        digest = integrity.verify(data)
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_plain(content)
        _check_format(content)
        content = upgraded(content)
        schema.check_loaded(content)
    return content, digest


def find(path: Path | str) -> Path:
    """Find the checkpoint for `path`: a file, a run folder (its ckpt.pt), or one of these under ./runs.

    Raises CheckpointError, with the nearest name, when there is none.
    """
    path = Path(path)
    try:
        for candidate in (path, RUNS / path):
            if candidate.is_file():
                return candidate
            if (candidate / LATEST).is_file():
                return candidate / LATEST
        raise CheckpointError(_not_found(next((at for at in (path, RUNS / path) if at.is_dir()), path)))
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {str(path)[:200]}: {error.strerror}.") from error


def clean(folder: Path) -> list[Path]:
    """Remove the temporary checkpoints that killed writers left in `folder`, and return their paths."""
    return files.remove_orphans(folder, "*.pt")


def _plain(value: Any, key: str = "") -> Any:
    """Copy `value` into plain containers and dense CPU tensors; TypeError names the `key` of anything else."""
    if type(value) in _SCALARS:
        return value
    if type(value) is torch.Tensor and value.layout is torch.strided:
        tensor = value.detach().cpu()
        dense = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        return tensor if dense else tensor.clone(memory_format=torch.contiguous_format)
    if type(value) in (list, tuple):
        return type(value)(_plain(item, f"{key}[{index}]") for index, item in enumerate(value))
    if type(value) in (dict, OrderedDict):  # a state_dict is an OrderedDict
        for name in value:
            if type(name) not in (str, int):
                raise TypeError(f"{key or 'the checkpoint'} has the key {name!r}: keys are str or int")
        return {name: _plain(item, f"{key}.{name}" if key else str(name)) for name, item in value.items()}
    raise TypeError(f"{key} is a {type(value).__name__}: a checkpoint takes tensors and plain Python values only")


def _check_plain(content: Any) -> None:
    """Raise ValueError for what `_plain` never returns: other types, sparse tensors, shared containers."""
    waiting, seen = [(content, 0)], set()
    while waiting:
        value, depth = waiting.pop()
        if type(value) in (list, tuple, dict) and value:
            if id(value) in seen:  # a few bytes can nest into 2^60 entries so, or into themselves
                raise ValueError("it holds one container in two places")
            seen.add(id(value))
            if depth == DEPTH:
                raise ValueError(f"it is nested deeper than {DEPTH} levels")
            items = value.values() if isinstance(value, dict) else value
            waiting.extend((item, depth + 1) for item in items)
            if isinstance(value, dict) and any(type(key) not in (str, int) for key in value):
                raise ValueError("it has a key that is neither str nor int")
        elif type(value) is torch.Tensor:  # contiguous: not larger than its storage in the file
            if value.layout is not torch.strided or value.device.type != "cpu" or not value.is_contiguous():
                raise ValueError("it holds a tensor that is not dense")
        elif type(value) not in (*_SCALARS, list, tuple, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise ValueError(f"it holds a whole number of more than {MOST_BITS} bits")
        elif isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise ValueError(f"it holds a text of more than {MOST_CHARACTERS:,} characters")


def _check_format(content: Any) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError("it is a torch file, but not a checkpoint of flowrl")
    if content["format"] not in READABLE:
        raise ValueError(
            f"it has format {content['format']}, of flowrl {str(content.get('flowrl'))[:20]}; this is flowrl "
            f"{__version__}, which reads formats up to {FORMAT} (`pip install -U flowrl-cli` may help)"
        )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn every error of reading a file that may be damaged or hostile into a CheckpointError of one paragraph."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(_not_found(path)) from error
    except Exception as error:
        if type(error) in (ValueError, OutOfRange, regular_files.UnsuitableFile):
            reason = str(error)[:600]
        elif isinstance(error, pickle.UnpicklingError):  # torch's own message advises to unpickle it anyway
            reason = "it holds something that is neither a tensor nor a plain value; nothing in it was run"
        else:
            reason = f"it cannot be read ({type(error).__name__}: {error})".split("\n", 1)[0]
        beside = (path.with_name(LATEST), path.with_name(BEST))
        others = [other for other in beside if other != path and other.is_file()]
        instead = f"Try {others[0]}" if others else "Copy it again from where it came, or use another run's"
        raise CheckpointError(f"{path} cannot be used: {reason}. {instead}.") from error


def _not_found(path: Path) -> str:
    """Describe why there is no checkpoint at `path`, and which ones exist."""
    if path.is_dir():
        best = [path / BEST] if (path / BEST).is_file() else []
        there = best or run_folders(path)
        return f"the folder {path} has no {LATEST}. {_choice(there) if there else _unsaved(path)}"
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    known = [entry.name for folder in {missing.parent, RUNS} if folder.is_dir() for entry in folder.iterdir()]
    near, saved = did_you_mean(missing.name, known), run_folders(RUNS)
    remedy = _choice(saved) if saved else "Train one with: flowrl train gridworld.yaml"
    other = "" if path.is_absolute() or path.parts[:1] == RUNS.parts else f", nor {RUNS / path}"
    return f"there is no checkpoint or run folder {path}{other}.{near or f' {remedy}'}"


def _unsaved(folder: Path) -> str:
    """Describe how to go on where the run in `folder` has saved nothing."""
    if lock.is_locked(folder):
        return f"{lock.holder(folder)} is training there, and has not saved yet: wait a moment."
    recipe = folder / "config.yaml"
    if not recipe.is_file():
        return "Has its run saved yet?"
    words = ["flowrl", "train", recipe, "--out", folder.parent, "--name", folder.name]
    return (
        "Nothing was saved: its run ended before its first save. The same command as before begins it again, as does: "
        f"{shlex.join(map(str, words))}"
    )


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders in `folder` that hold a ckpt.pt, the latest first."""
    saved = sorted(folder.glob(f"*/{LATEST}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent for file in saved]


def _choice(paths: list[Path]) -> str:
    return f"Name one of these: {', '.join(map(str, paths[:8]))}{', …' if len(paths) > 8 else ''}."
