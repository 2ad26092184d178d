"""The user's code that a run was trained with: its digests in the checkpoints, copies in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowrl.config import named_code
from flowrl.config.yaml_reader import KeyPath
from flowrl.contracts import user_code
from flowrl.contracts.regular_files import read_bounded
from flowrl.storage.files import write_text

FOLDER = "code"
DIGITS = 8  # of the digest, in the name of a copy


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file and imported module that `config` names, by its name there."""
    found = {source: user_code.digest(source) for source in named_code.sources_in(config)}
    return {source: digest for source, digest in found.items() if digest is not None}


def copy_of(folder: Path, source: str, digest: str) -> Path:
    """Return where the run in `folder` keeps its copy of the code `source`: RUN/code/my_env-1a2b3c4d.py."""
    name = Path(source).stem if source.endswith(".py") else source
    return folder / FOLDER / f"{name}-{digest[:DIGITS]}.py"


def keep(folder: Path, recorded: Mapping[str, str]) -> None:
    """Copy the code that was `recorded` as by `digests` into the run's folder, unless it is there already."""
    for source, digest in recorded.items():
        path, kept = user_code.path_of(source), copy_of(folder, source, digest)
        if path is not None and user_code.digest(source) == digest and not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            write_text(kept, read_bounded(path, user_code.MOST_BYTES).decode("utf-8", errors="replace"))


def changes(
    content: Mapping[str, Any],
    checkpoint: Path,
    config: Mapping[str, Any] | None = None,
    keys: Sequence[KeyPath] = named_code.KEYS,
) -> list[str]:
    """Return a sentence for each file whose text is not that with which the run of the `checkpoint` was trained.

    `config` is the configuration that is used now: what it does not name at one of `keys` is left out. Modules are
    compared where they have been imported.
    """
    used = None if config is None else named_code.sources_in(config, keys)
    lines = []
    for source, digest in content.get("code", {}).items():
        path = user_code.path_of(source)
        if path is None or (used is not None and source not in used):
            continue
        now = user_code.digest(source)
        if now == digest:
            continue
        kept = copy_of(checkpoint.parent, source, digest)
        what = "has changed since" if now else "cannot be found; it is what"
        copied = f" Its text of then is in {kept}." if kept.is_file() else ""
        lines.append(f"{source} {what} {checkpoint} was {'saved' if now else 'trained with'}.{copied}")
    return lines
