"""The folder of an export: policy.json, which describes it, and the files beside it. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from flowrl.contracts import regular_files
from flowrl.contracts.errors import CheckpointError, MissingDependency, UsageError
from flowrl.contracts.installing import reinstall
from flowrl.deployment import c_compiler, c_reader, c_source, onnx_model
from flowrl.deployment.backends import Backend, CBackend, OnnxBackend
from flowrl.deployment.noise_choice import LARGEST_SEED, ExportedNoise, NoiseChoice
from flowrl.deployment.serving import DeployedPolicy, OnBad

DESCRIPTION = "policy.json"
FORMAT = 1
MOST_BYTES = 500_000_000  # of a file
MOST_NUMBERS = 10_000_000  # of an observation or action
LARGEST_SCALE = 1000.0
BACKENDS = ("auto", "torch", "onnx", "c")


@dataclass(frozen=True)
class Description:
    """What loading a folder needs of its policy.json."""

    observation_size: int
    action_size: int
    noise: NoiseChoice
    sampler: str | None  # "euler:10"; None: a Gaussian policy
    nfe: int
    files: dict[str, str]  # name -> sha256, hex
    prefix: str | None  # of the C functions; None: no C file


def is_export(path: Path) -> bool:
    """Return whether `path` is the folder of an export."""
    return (path / DESCRIPTION).is_file()


def replaceable(path: Path, names: Collection[str]) -> list[str]:
    """Return which of the files `names` an earlier export has left in the folder `path`.

    Raises UsageError where one of them is the user's own: there is no policy.json of an export that lists it, or its
    content is not what that export wrote.
    """
    present = [name for name in names if (path / name).exists() or (path / name).is_symlink()]
    recorded: dict[str, str] | None = None
    with suppress(CheckpointError):
        recorded = read(path)[0].files
    own = [name for name in present if recorded is None or (name != DESCRIPTION and name not in recorded)]
    changed = [name for name in present if name != DESCRIPTION and name not in own and not _is(path / name, recorded)]
    if not own and not changed:
        return present
    what = f"{', '.join(own)}, which no export has written there" if own else ""
    what += " and " if own and changed else ""
    what += f"{', '.join(changed)}, which was changed since it was exported" if changed else ""
    other = path / "export"
    while other.exists():
        other = other.with_name(f"{other.name}-new")
    raise UsageError(
        f"--out {path}: the folder has {what}; an export would overwrite or remove it. Choose a folder without such "
        f"files: --out {shlex.quote(str(other))}, or move them away first."
    )


def _is(file: Path, recorded: dict[str, str] | None) -> bool:
    """Return whether `file` has the checksum that is recorded for its name."""
    with suppress(OSError, ValueError):
        data = regular_files.read_bounded(file, MOST_BYTES)
        return hashlib.sha256(data).hexdigest() == (recorded or {}).get(file.name)
    return False


def read(path: Path) -> tuple[Description, dict[str, Any]]:
    """Return policy.json in the folder `path`, checked, and all of it; raises CheckpointError."""
    file = path / DESCRIPTION
    try:
        document = json.loads(regular_files.read_bounded(file, 10_000_000), parse_constant=_no_constant)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"its key 'format' is not {FORMAT}, which is what this version of flowrl reads")
        return _described(document), document
    except (ValueError, OSError, RecursionError, UsageError) as error:
        raise CheckpointError(f"{file} cannot be used: {str(error)[:300]}. Export the policy again.") from error


def _no_constant(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no number of JSON")


def _described(document: dict[str, Any]) -> Description:
    """Return the values that are read, each of them checked; raises ValueError with the key of a wrong one."""
    mode = _value(document, "noise.mode", str)
    if mode not in get_args(ExportedNoise):
        raise ValueError(f"its key 'noise.mode' is {mode[:40]!r}")
    scale = _value(document, "noise.scale", int | float)
    seed = _value(document, "noise.seed", int)
    if not (0 <= scale <= LARGEST_SCALE and 0 <= seed <= LARGEST_SEED):
        raise ValueError("its key 'noise' has numbers out of range")
    observation, action = (_value(document, f"{name}.size", int) for name in ("observation", "action"))
    if not all(0 < size <= MOST_NUMBERS for size in (observation, action)):
        raise ValueError(f"its sizes are {observation} and {action}, and must be from 1 to {MOST_NUMBERS:,}")
    _check_arrays(document, action)
    files = _value(document, "files", dict)
    prefix = _value(document, "c.prefix", str) if document.get("c") is not None else None
    if prefix is not None:
        c_source.check_prefix(prefix)
    sampler, steps = (_value(document, f"sampler.{key}", kind | None) for key, kind in (("name", str), ("steps", int)))
    name = sampler and (f"{sampler}:{steps}" if steps else sampler)
    nfe = _value(document, "sampler.nfe", int)
    return Description(observation, action, NoiseChoice(mode, float(scale), seed), name, nfe, files, prefix)


def _check_arrays(document: dict[str, Any], action_size: int) -> None:
    """Raise ValueError for bounds, sizes and a history that no export has; they are read by the user's own programs."""
    for key in ("low", "high", "scale", "offset"):
        values = document["action"].get(key)
        if values is not None and (not isinstance(values, list) or len(values) != action_size):
            raise ValueError(f"its key 'action.{key}' is not a list of {action_size} numbers, one for each action")
    if document["noise"].get("size", action_size) != action_size:
        raise ValueError(f"its key 'noise.size' is not {action_size}, the size of the actions")
    history = document["observation"].get("history", 1)
    if not isinstance(history, int) or isinstance(history, bool) or history < 1:
        raise ValueError(f"its key 'observation.history' is {str(history)[:40]}, and must be a whole number from 1 on")


def _value(document: dict[str, Any], key: str, kind: Any) -> Any:
    """Return the value at the dotted `key`; raises ValueError where it is missing, or not of this `kind`."""
    value: Any = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"its key {key!r} is missing or of another type")
    return value


def load(
    path: Path, *, noise: str | None, noise_scale: float | None, backend: str, seed: int | None, on_bad: OnBad
) -> DeployedPolicy:
    """Load the export in the folder `path`; see `flowrl.experiments.serve.load`."""
    described, document = read(path)
    own = described.noise
    if own.mode in ("zero", "fixed") and (noise not in (None, own.mode) or noise_scale is not None):
        raise UsageError(
            f"{path} was exported with {own.mode} noise, which is a part of its files. Leave noise and noise_scale "
            "out, or export it with --noise input."
        )
    if noise_scale and own.scale == 0:
        raise UsageError(f"{path} was exported with a noise scale of 0, which no factor changes. Export it again.")
    made = _backend(path, described, backend)
    seeded_inside = own.mode == "seeded" and made.name == "onnx"
    if seeded_inside and (noise is not None or noise_scale is not None or seed is not None):
        raise UsageError(
            f"{path}: policy.onnx draws its noise itself (--noise seeded). Use backend='c' to choose another."
        )
    return DeployedPolicy(
        made,
        described.observation_size,
        described.action_size,
        noise="zero" if own.mode == "zero" else noise or "random",
        seed=own.seed if seed is None else seed,
        noise_factor=1.0 if noise_scale is None else noise_scale / (own.scale or 1.0),
        own_noise=own.mode in ("zero", "fixed") or seeded_inside,
        on_bad=on_bad,
        contract=document,
        nfe=described.nfe,
        sampler=described.sampler,
    )


def _backend(path: Path, described: Description, backend: str) -> Backend:
    """Open policy.c or policy.onnx; `auto` takes a library that was compiled here before, else policy.onnx."""
    if backend == "torch":
        raise UsageError(f"{path} is an export, without torch: choose backend='c' or 'onnx', or load the checkpoint.")
    has = {name for name in (c_source.SOURCE, onnx_model.FILE) if name in described.files}
    if backend in ("auto", "c") and c_source.SOURCE in has and described.prefix is not None:
        source = _verified(path / c_source.SOURCE, described).decode("utf-8", "replace")
        _check_sizes(path / c_source.SOURCE, described, c_source.sizes(source))
        library = c_compiler.cached(source)
        if library is None and backend == "c":
            found = c_reader.read(source, described.prefix, str(path / c_source.SOURCE))
            header = c_source.header(found.program, NoiseChoice(), described.prefix)  # our own, not that of the folder
            library = c_compiler.compiled(source, header)
        if library is not None:
            return CBackend(library, described.prefix)
    if backend in ("auto", "onnx") and onnx_model.FILE in has:
        try:
            opened = OnnxBackend(_verified(path / onnx_model.FILE, described))
            _check_sizes(path / onnx_model.FILE, described, opened.sizes)
            return opened
        except MissingDependency:
            if backend == "onnx":
                raise
        except CheckpointError:
            raise
        except Exception as error:  # of onnxruntime, on a file that may be of anyone
            raise CheckpointError(f"{path / onnx_model.FILE} cannot be used: {str(error)[:300]}.") from error
    if backend in ("c", "onnx"):
        missing = c_source.SOURCE if backend == "c" else onnx_model.FILE
        raise UsageError(f"{path} has no {missing}: export the policy with --format {backend}.")
    raise UsageError(
        f"{path}: nothing here can run at once. Its C file has not been compiled on this machine, which backend='c' "
        f"does once (a second); or install onnxruntime for policy.onnx: {reinstall('export')}."
    )


def _check_sizes(file: Path, described: Description, sizes: tuple[Any, Any]) -> None:
    """Raise CheckpointError unless the policy in `file` has the `sizes` (observation, action) of the description."""
    said = described.observation_size, described.action_size
    if sizes != said:
        raise CheckpointError(
            f"{file} has observations and actions of {sizes[0]} and {sizes[1]} numbers, and policy.json says {said[0]} "
            f"and {said[1]}: the files are of two exports. Export the policy again."
        )


def _verified(file: Path, described: Description) -> bytes:
    """Return the bytes of `file`; raises CheckpointError unless they have the checksum in policy.json."""
    try:
        data = regular_files.read_bounded(file, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Export the policy again.") from error
    if hashlib.sha256(data).hexdigest() != described.files.get(file.name):
        raise CheckpointError(f"{file} is not the file that policy.json describes: it was changed. Export it again.")
    return data
