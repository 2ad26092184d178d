"""Compiling the C file of a policy into a library, once: compiled libraries are kept in the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flowrl.contracts.errors import MissingDependency, StorageError

FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
COMPILERS = ("gcc", "clang", "cc")


def compiler() -> list[str] | None:
    """Return the words that start a C compiler: those of the variable CC, or the first that a shell finds; or None."""
    if chosen := os.environ.get("CC"):
        words = shlex.split(chosen)
        return words if words and shutil.which(words[0]) else None
    return next(([name] for name in COMPILERS if shutil.which(name)), None)


def needed_compiler() -> list[str]:
    """Return the words that start a C compiler; raises MissingDependency when there is none."""
    found = compiler()
    if found is None:
        raise MissingDependency(
            "no C compiler was found (gcc, clang, cc, or what CC names). Install one: `apt install gcc` on Debian and "
            "Ubuntu, `xcode-select --install` on a Mac."
        )
    return found


def cache_folder() -> Path:
    """Return the folder of compiled policies: ~/.cache/flowrl/policies, or where XDG_CACHE_HOME says."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "flowrl" / "policies"


def cached(source: str) -> Path | None:
    """Return the library that was compiled here from policy.c `source`; None if there is none.

    A file that another user could have written is not taken: loading a library runs it.
    """
    path = _place(source)
    try:
        mine = all(_only_mine(each) for each in (path, path.parent))
    except OSError:
        return None
    return path if mine else None


def compiled(source: str, header: str) -> Path:
    """Compile policy.c `source` with policy.h `header` for this processor, unless that was done before.

    Raises MissingDependency when there is no compiler, and StorageError when it fails or the cache cannot be written.
    """
    if (found := cached(source)) is not None:
        return found
    needed_compiler()
    path = _place(source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _only_mine(path.parent):
            raise StorageError(
                f"{path.parent} belongs to another user, or others may write to it: a library from there could be "
                "theirs. Set XDG_CACHE_HOME to a folder of your own."
            )
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        build(source, header, part, FLAGS)
        part.chmod(0o700)
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be written ({error.strerror}): it keeps compiled policies. Set XDG_CACHE_HOME to a "
            "folder of your own."
        ) from error
    return path


def build(source: str, header: str, out: Path, flags: Sequence[str]) -> str:
    """Compile policy.c `source` to the file `out` with `flags`, and return what the compiler printed.

    Raises MissingDependency when there is no compiler, and StorageError when it fails.
    """
    words = needed_compiler()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.c").write_text(source)
        (Path(folder) / "policy.h").write_text(header)
        command = [*words, *flags, "policy.c", "-o", str(out.absolute())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StorageError(f"`{shlex.join(command)}` failed: {' '.join(done.stderr.split())[:600]}")
    return done.stderr


def version() -> str:
    """Return the name and version of the compiler, or ''."""
    words = compiler()
    if words is None:
        return ""
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.partition("\n")[0]


def stack_bytes(source: str, header: str, name: str) -> int | None:
    """Return the stack that one action needs, as gcc counts it; None where the compiler does not."""
    words = needed_compiler()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.c").write_text(source)
        (Path(folder) / "policy.h").write_text(header)
        command = [*words, *FLAGS[:4], "-fstack-usage", "-c", "policy.c", "-o", "policy.o"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        report = Path(folder) / "policy.su"
        if done.returncode or not report.is_file():
            return None
        found = re.search(rf":{name}_act\s+(\d+)", report.read_text())
    return int(found[1]) if found else None


def function(library: Path, name: str) -> ctypes._FuncPointer:
    """Load the library and return its function `name`_act, which takes three addresses."""
    loaded = ctypes.CDLL(str(library))
    act = loaded[f"{name}_act"]
    act.argtypes, act.restype = [ctypes.c_void_p] * 3, ctypes.c_int
    return act


def _place(source: str) -> Path:
    key = "\0".join([source, *FLAGS, _processor(), str(os.environ.get("CC"))])
    return cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.so"


@functools.cache
def _processor() -> str:
    """Return what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "features", "cpu part")
    return "\n".join(dict.fromkeys(line for line in lines if line.lower().startswith(wanted))) or platform.machine()


def _only_mine(path: Path) -> bool:
    """Return whether only this user can have written to `path`; raises OSError where there is none."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
