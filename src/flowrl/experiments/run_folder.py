"""The folder of a run: a free one for a new run, locked against a second writer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flowrl.config import named_code, recipe, yaml_reader
from flowrl.config.schema import Config
from flowrl.contracts.errors import CheckpointError, StorageError, UsageError
from flowrl.contracts.notices import say
from flowrl.contracts.regular_files import read_bounded
from flowrl.reporting import jsonl, trackers
from flowrl.storage import checkpoint
from flowrl.storage import lock as lock_file
from flowrl.storage.files import check_folder_name, write_text
from flowrl.storage.lock import Locked, RunLock

CONFIG = "config.yaml"
TEMPORARY = ".*.tmp*"
LEFTOVERS = (CONFIG, "diverged.pt", "events.out.tfevents.*", trackers.IDS, TEMPORARY)
"""What a run that was killed before it first saved may leave, besides its metrics, and the next one replaces."""
OWN = (*LEFTOVERS, "metrics*.jsonl", lock_file.NAME, lock_file.CLAIM)
"""All that may lie in the folder of a run that a new one replaces."""
OF_A_TRIAL = (*LEFTOVERS, jsonl.NAME, "*.pt", "*.json")
"""What a trial of a suite that has to begin again may have left: its records and best.pt as well."""


def lock(folder: Path) -> RunLock:
    """Lock the run in `folder` for this process. Raises Locked when another one writes to it."""
    return RunLock(folder)


def new(out: Path, stem: str, name: str | None, config: str) -> tuple[Path, RunLock]:
    """Create and lock the folder of a new run, `out/name`, or `out/stem` or the first free one of `out/stem-2`, …,
    and write its `config`.yaml, which marks it as that of a run.

    A run that was killed before it first saved is begun again: under a given `name`, or where its config.yaml is
    `config`. Raises UsageError when `name` is taken, Locked when another process writes there, StorageError when the
    folder cannot be created.
    """
    if name is not None:
        check_folder_name(name, "--name")
    number = 1
    while True:
        folder = out / (name or (stem if number == 1 else f"{stem}-{number}"))
        number += 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}. Choose another folder with --out.") from error
        if name is None and not _is_free(folder, config):
            continue
        try:
            held = lock(folder)
        except Locked:
            if name is None:
                continue
            raise
        if _is_free(folder, config if name is None else None):  # nobody else changes it now
            _clear(folder)
            write_text(folder / CONFIG, config)
            return folder, held
        held.release()
        if name is not None:
            raise UsageError(_taken(folder))


def _is_free(folder: Path, config: str | None) -> bool:
    """Return whether a new run may have `folder`: it is empty, or holds nothing but a run without a checkpoint, whose
    config.yaml is `config` (None: that of any run)."""
    held = list(folder.iterdir())
    if not all(path.is_file() and any(path.match(pattern) for pattern in OWN) for path in held):
        return False
    if all(path.name in (lock_file.NAME, lock_file.CLAIM) or path.match(TEMPORARY) for path in held):
        return True
    try:
        data = read_bounded(folder / CONFIG, yaml_reader.MAX_BYTES)
        recipe.validate(Config, recipe.parse(data, CONFIG))
    except (OSError, ValueError, UsageError):
        return False
    return config is None or data.decode(errors="replace") == config


def remove(folder: Path, patterns: Sequence[str]) -> None:
    """Remove the files in `folder` that match one of `patterns`, such as `OF_A_TRIAL`."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def _clear(folder: Path) -> None:
    """Remove what an unsaved run has left; its metrics, if it has any, are kept under another name."""
    remove(folder, LEFTOVERS)
    metrics = folder / jsonl.NAME
    if metrics.is_file() and metrics.stat().st_size:
        kept = folder / f"{metrics.stem}-unsaved{metrics.suffix}"
        metrics.replace(kept)
        say(f"{folder} has no checkpoint, so its run begins again; the metrics of before are in {kept.name}.")


def _taken(folder: Path) -> str:
    """Explain why a new run cannot have `folder`, and what to type."""
    if not (folder / checkpoint.LATEST).is_file() and not (folder / checkpoint.BEST).is_file():
        return f"{folder} holds other files than a run's. Choose another --name."
    saved = folder if (folder / checkpoint.LATEST).is_file() else folder / checkpoint.BEST
    code: list[str] = []
    with suppress(CheckpointError):
        code = named_code.import_words(checkpoint.load(checkpoint.find(saved))["config"])
    again = shlex.join(["flowrl", "train", "--resume", str(saved), *code])
    return f"{folder} holds a run already. Continue it with: {again}; or choose another --name."
