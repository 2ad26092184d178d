"""What to type to install a package: the same command in every message, for this interpreter and this installation."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

DISTRIBUTION = "flowrl-cli"


def reinstall(extra: str = "", force: bool = False) -> str:
    """Return the command that installs flowrl again, with the optional group `extra`: from its clone, when it was
    installed from one."""
    group = f"[{extra}]" if extra else ""
    clone = Path(__file__).parents[3]
    is_clone = (clone / "pyproject.toml").is_file()
    source = f"-e {shlex.quote(f'{clone}{group}')}" if is_clone else f"'{DISTRIBUTION}{group}'"
    return pip(f"install {'--force-reinstall --no-deps ' if force else ''}{source}")


def pip(command: str) -> str:
    """Return a command for the pip of this interpreter, which may not be the shell's `pip`, or for uv's."""
    found, here = shutil.which("pip"), shlex.quote(sys.executable)
    if found and Path(found).parent == Path(sys.executable).parent:
        return f"pip {command}"
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip {command} --python {here}"
    return f"{here} -m pip {command}"
