"""The file of a fitted sampler, which `flowrl fit-sampler` writes: YAML of numbers, from which nothing is run.

A recipe or a command line names the file where it would name a sampler. It is read then, and its numbers take the
place of its name: they are in the configuration of a run and in its checkpoint, which therefore need no file. A name
of a file that only a checkpoint holds is not opened (`flowrl.samplers.registry.make` refuses it).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from flowrl.config import named_code, recipe, yaml_reader
from flowrl.config.recipe import Place, Recipe
from flowrl.contracts import regular_files
from flowrl.contracts.errors import UsageError
from flowrl.contracts.settings import Settings
from flowrl.samplers import registry

NAME = "fitted"  # of the sampler that takes the numbers
MOST_BYTES = 200_000
HEAD = "# A sampler fitted by `flowrl fit-sampler`: use this file's name where a sampler is named.\n"

Row = Annotated[tuple[float, ...], Strict(False)]


class FittedFile(Settings):
    """The content of the file."""

    flowrl: Literal["fitted"]
    """What the file holds."""
    nfe: int = Field(ge=1, le=64)
    """Velocity evaluations per action."""
    times: Row
    """When the velocity is evaluated: (nfe,), rising, from 0 (noise) on and below 1 (action)."""
    weights: Annotated[tuple[Row, ...], Strict(False)]
    """A row of 1, 2, …, nfe weights after each evaluation: the next point is x0 + Σ weight · velocity."""
    target: str = Field("", max_length=200)
    """What it was fitted to: a sampler such as euler:10, or exact."""
    of: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the content of the checkpoint that it was fitted to."""
    endpoint_error: float | None = Field(None, ge=0)
    """Distance to the actions of the target, relative to their spread, on observations that were not fitted to."""


@dataclass(frozen=True)
class NamedFile:
    """A fitted sampler that the user has named: the file, and its content."""

    path: str
    content: FittedFile

    @property
    def options(self) -> dict[str, Any]:
        """The options of the sampler `NAME` with these numbers, as plain values."""
        weights = [list(row) for row in self.content.weights]
        return {"times": list(self.content.times), "weights": weights, "label": Path(self.path).stem}

    def mismatch(self, digest: str) -> str:
        """Return why the numbers may not fit the checkpoint of this `digest`; '' where they were fitted to it."""
        if not self.content.of or self.content.of == digest:
            return ""
        return (
            f"{self.path} was fitted to another checkpoint ({self.content.of[:12]}…, and this is {digest[:12]}…): its "
            "actions may be off. Fit one to this: flowrl fit-sampler"
        )


def read(path: str) -> NamedFile:
    """Read the file of a fitted sampler. Raises UsageError, with file, line and key, for one that cannot be used."""
    try:
        data = regular_files.read_bounded(Path(path), MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"sampler {path!r}: there is no such file. `flowrl fit-sampler` writes one.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"sampler {path!r}: the file cannot be read: {error}.") from None
    values, lines = yaml_reader.parse(data, path)
    source = Recipe(path, values, {key: Place(path, line, key) for key, line in lines.items()})
    if values.get("flowrl") != "fitted":
        raise UsageError(
            f"{path} is not the file of a sampler: it does not begin with 'flowrl: fitted'. `flowrl fit-sampler` "
            "writes such a file."
        )
    content = recipe.validate(FittedFile, source)
    if len(content.times) != content.nfe:
        raise UsageError(f"{source.place(('times',))}: {len(content.times)} numbers, and nfe is {content.nfe}.")
    named = NamedFile(path, content)
    try:
        registry.make(NAME, named.options)
    except registry.SamplerRefused as error:
        raise UsageError(f"{source.place((error.key,) if error.key else ())}: {error}") from error
    return named


def is_fitted(path: Path) -> bool:
    """Return whether the file at `path` is one of a fitted sampler that can be used."""
    with suppress(UsageError):
        read(str(path))
        return True
    return False


def text(content: FittedFile) -> str:
    """Return the text of the file."""
    return HEAD + yaml_reader.write(content.model_dump(mode="json", exclude_none=True))


def named(name: str, options: Mapping[str, object] | None = None) -> tuple[str, dict[str, object]]:
    """Return what `flowrl.samplers.registry.make` takes for a sampler that the user has typed, a file or not."""
    if not registry.is_file(name):
        return name, dict(options or {})
    return NAME, read(name).options | dict(options or {})


def filled(source: Recipe, use: Callable[[NamedFile], None] = lambda file: None) -> Recipe:
    """Return the recipe with the numbers of each fitted sampler in the place of the file that the user names.

    A file in a recipe is looked for beside the recipe, then in the current folder. What only a checkpoint or the
    config.yaml of a run names is left as it is. `use` is called with each file that was read.
    """
    values = source.values
    for section in ((), *((name,) for name in named_code.SECTIONS)):
        block = _sampler(values, section)
        name = block.get("name") if block else None
        path = (*section, "sampler", "name")
        if not isinstance(name, str) or not registry.is_file(name) or not named_code.is_of_user(source, path):
            continue
        beside = Path(source.name).parent / name
        file = read(name if source.place(path).is_override or not beside.is_file() else str(beside))
        use(file)
        values = copy.deepcopy(values)
        _sampler(values, section).update({"name": NAME, **file.options})
    return source if values is source.values else Recipe(source.name, values, source.places, source.checkpoint)


def _sampler(values: Mapping[str, Any], section: tuple[str, ...]) -> dict[str, Any]:
    """Return the block `sampler` of a section; an empty one where there is none."""
    block: Any = values
    for step in (*section, "sampler"):
        block = block.get(step) if isinstance(block, Mapping) else None
    return block if isinstance(block, dict) else {}
