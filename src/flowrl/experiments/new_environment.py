"""A first environment of the user's own: a file with a class that works, and the recipe that trains on it."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import packages_distributions
from pathlib import Path

from flowrl.contracts.errors import StorageError, UsageError
from flowrl.storage.files import write_text

KINDS = ("gymnasium", "mujoco")


@dataclass(frozen=True)
class NewEnvironment:
    """The files that were written."""

    kind: str
    file: Path
    recipe: Path
    name: str  # of the class

    @property
    def id(self) -> str:
        """The environment's id, from the current folder: 'envs/my_env.py:MyEnv'."""
        return f"{self.file}:{self.name}"


def write(file: Path, kind: str) -> NewEnvironment:
    """Write a working environment of `kind` into `file`, and its recipe beside it.

    `gymnasium` is a gymnasium.Env, `mujoco` a task on the fast simulation. Raises UsageError for a file name that gives
    no module or that exists, and StorageError where it cannot be written.
    """
    name = class_name(file)
    made = NewEnvironment(kind, file, file.with_suffix(".yaml"), name)
    for path in (made.file, made.recipe):
        if path.exists():
            raise UsageError(f"{path} exists already, and is not overwritten. Choose another name.")
    words = {"file": file.name, "recipe": str(made.recipe), "name": name}
    texts = resources.files("flowrl.experiments").joinpath("templates")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{file.parent}: {error.strerror}.") from error
    for path, ending in ((made.file, "py"), (made.recipe, "yaml")):
        text = texts.joinpath(f"{kind}.{ending}.txt").read_text("utf-8")
        write_text(path, text.format(**words | {"file": str(file) if ending == "py" else file.name}))
    return made


def class_name(file: Path) -> str:
    """Return the class's name for a file's: MyRobot for my_robot.py; raises UsageError for a name that gives none."""
    stem = file.stem
    if file.suffix != ".py" or not stem.isidentifier() or keyword.iskeyword(stem):
        meant = re.sub(r"\W+", "_", stem).strip("_").lower()
        good = meant if meant.isidentifier() and not keyword.iskeyword(meant) else "my_env"
        raise UsageError(
            f"{file}: name a Python file of letters, digits and underscores. Type: flowrl new {file.with_name(good)}.py"
        )
    if (hidden := _hides(file)) is not None:
        raise UsageError(
            f"{file}: a file of this name would hide the {hidden} from all that is run beside it. Choose another name, "
            f"such as: flowrl new {file.with_name(f'my_{stem}')}.py"
        )
    name = "".join(word[:1].upper() + word[1:] for word in stem.split("_"))
    return name if name.isidentifier() else "MyEnv"


def _hides(file: Path) -> str | None:
    """Return which module of the standard library or of an installed package has the name of `file`; None for none."""
    if file.stem in sys.stdlib_module_names:
        return f"module {file.stem} of Python's standard library"
    return f"installed module {file.stem}" if file.stem in packages_distributions() else None
