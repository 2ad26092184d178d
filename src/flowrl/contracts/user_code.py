"""Code that a user names: `path/file.py:Name`, `package.module:Name`, or a file or module to import.

Loading code runs it, so nothing is loaded that the user has not named: on the command line, in a recipe of their own,
or by a call of `name_code`. A checkpoint, the config.yaml of a run or any other file that came from elsewhere may hold
such a name too; `load` then refuses it, whatever calls it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from flowrl.contracts.errors import UsageError, did_you_mean, in_one_line
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.contracts.regular_files import read_bounded

MOST_BYTES = 16 * 2**20  # of a Python file
MODULES = "flowrl_user_code"  # the package under which loaded files are in sys.modules

_named: dict[str, str] = {}  # the sources that the user has named: resolved -> as written
_imported: dict[str, None] = {}  # those of which not one object, but all was loaded, resolved, in order


@dataclass(frozen=True)
class CodeName:
    """The name of code in a file or a module: `path/file.py:Name`, `package.module:Name`."""

    source: str  # 'path/file.py' or 'package.module', as written
    attribute: str  # 'Name', or '' for the source itself

    @property
    def is_file(self) -> bool:
        """Whether the source is a Python file rather than a module."""
        return self.source.endswith(".py")

    @property
    def resolved(self) -> str:
        """The source, a file as an absolute path."""
        return str(Path(self.source).resolve()) if self.is_file else self.source

    def __str__(self) -> str:
        return f"{self.source}:{self.attribute}" if self.attribute else self.source


@dataclass(frozen=True)
class NamedCode:
    """What a process may load: resolved sources, and those that it has imported as a module, in order."""

    sources: tuple[str, ...]
    imported: tuple[str, ...]


def is_code(text: str) -> bool:
    """Return whether `text` names code, rather than something registered under a plain name."""
    return ":" in text or text.endswith(".py")


def parse(text: str) -> CodeName:
    """Split 'path/file.py:Name' or 'package.module:Name'; without ':' all of it is the source."""
    source, colon, attribute = text.rpartition(":")
    return CodeName(source, attribute) if colon else CodeName(text, "")


def name_code(*texts: str) -> None:
    """Allow this process to load the files or modules in `texts`, which the user has named; loads nothing.

    Its caller vouches that a person chose the name: never call it with what was read from a checkpoint. A package that
    is named stands for its modules, too.
    """
    _named.update({name.resolved: name.source for name in map(parse, texts)})


def is_named(text: str) -> bool:
    """Return whether the user has named the file or module in `text`, or a package around the module."""
    name = parse(text)
    if name.is_file:
        return name.resolved in _named
    parts = name.source.split(".")
    return any(".".join(parts[:length]) in _named for length in range(1, len(parts) + 1))


def stand_in(text: str, recorded: str | None = None) -> str:
    """Return `text` with the file that the user has named in the place of its own, which lies elsewhere: one of the
    same base name. A checkpoint names files as seen from the folder of the training.

    Of several the one with the digest `recorded` is taken. Returns `text` itself where the user has named its own file,
    none of this name, or several of which none is the recorded one.
    """
    name = parse(text)
    if not name.is_file or is_named(text):
        return text
    same = [source for source in _named.values() if Path(source).name == Path(name.source).name]
    if len(same) > 1:
        same = [source for source in same if recorded is not None and digest(source) == recorded]
    return str(CodeName(same[0], name.attribute)) if same else text


def named() -> NamedCode:
    """Return what the user has named and what was imported, for `adopt` in a process that works for this one."""
    return NamedCode(tuple(sorted(_named)), tuple(_imported))


def adopt(code: NamedCode) -> None:
    """Name and import what the process that started this one has named and imported."""
    _named.update({source: source for source in code.sources})
    for text in code.imported:
        load(text, "imports")


@contextmanager
def naming_apart() -> Iterator[None]:
    """Forget at the end what is named inside: each command of a process begins with nothing that is named."""
    sources, imported = dict(_named), dict(_imported)
    _named.clear()
    _imported.clear()
    try:
        yield
    finally:
        _named.clear()
        _named.update(sources)
        _imported.clear()
        _imported.update(imported)


def refusal(wanted: Iterable[tuple[str, str]], origin: str = "") -> str:
    """Return why the user has to name code before it is run, and what to type; `wanted` are (key, name), such as
    ('env.id', 'my_env.py:Reach'), and `origin` is the file that holds them, if any."""
    listed = list(wanted)
    what = " and ".join(f"{key} is {kind_of(text)} {parse(text).source}" for key, text in listed)
    lying = [found_near(parse(text).source, Path(origin)) for _, text in listed]
    absent = [source for source in dict.fromkeys(lying) if source.endswith(".py") and not Path(source).is_file()]
    elsewhere = "".join(
        f" There is no {source} in {Path.cwd()}: write where it lies, as in --import folder/{Path(source).name}."
        for source in absent
    )
    return (
        f"{origin}{': ' if origin else ''}{what}. Such a name may come from anyone, so flowrl runs that code only when "
        f"you name it: {' '.join(import_options(lying))} (look at it first).{elsewhere}"
    )


def found_near(source: str, origin: Path) -> str:
    """Return the path of the file `source` as seen from the current folder, or else from a folder around `origin`, the
    file that names it: a run is mostly in a folder below that of its training. Returns `source` where there is none."""
    if not source.endswith(".py") or Path(source).is_absolute():
        return source
    places = [Path(source), *(folder / source for folder in origin.parents)]
    return next((str(place) for place in places if place.is_file()), source)


def import_options(texts: Iterable[str]) -> list[str]:
    """Return the options of a command that name the code in `texts`, each once: ['--import my_env.py']."""
    sources = dict.fromkeys(parse(text).source for text in texts)
    return [f"--import {shlex.quote(source)}" for source in sources]


def kind_of(text: str) -> str:
    """Return 'the file' or 'the module'."""
    return "the file" if parse(text).is_file else "the module"


def load(text: str, key: str) -> Any:
    """Return the object that `text` names, or the module where it names none; `key` of a recipe begins the errors.

    Raises UsageError when the user has not named it, when there is no such source, when it cannot be run, or when it
    has no such attribute.
    """
    name = parse(text)
    if not name.is_file and not all(part.isidentifier() for part in name.source.split(".")):
        raise UsageError(
            f"{key} {text!r} names no code. Write a Python file, as in my_code.py, or a module, as in my_package.code, "
            "and where one object of it is meant a colon and its name: my_code.py:name."
        )
    if not is_named(text):
        raise UsageError(refusal([(key, text)]))
    module = _load_file(name, key) if name.is_file else _load_module(name, key)
    if not name.attribute:
        _imported[name.resolved] = None
        return module
    if not hasattr(module, name.attribute):
        own = [known for known, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise UsageError(
            f"{key} {text!r}: {name.source} has no {name.attribute!r}.{did_you_mean(name.attribute, own)} "
            f"It has: {', '.join(own) or 'nothing of its own'}."
        )
    return getattr(module, name.attribute)


def path_of(text: str) -> Path | None:
    """Return the Python file of the code that `text` names; None for a module that was not imported, or has none.

    Nothing is imported.
    """
    name = parse(text)
    if name.is_file:
        return Path(name.source)
    origin = getattr(sys.modules.get(name.source), "__file__", None)
    return Path(origin) if origin and origin.endswith(".py") else None


def digest(text: str) -> str | None:
    """Return the SHA-256 of the file of `path_of(text)`, in hexadecimal digits; None where it cannot be read."""
    path = path_of(text)
    with suppress(OSError, ValueError):
        return None if path is None else hashlib.sha256(read_bounded(path, MOST_BYTES)).hexdigest()
    return None


def _load_file(name: CodeName, key: str) -> ModuleType:
    """Run a Python file and return its module; once, unless its text changes."""
    path = Path(name.resolved)
    try:
        text = read_bounded(path, MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"{key} {str(name)!r}: there is no file {name.source}{_seen_from(name.source)}.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{key} {str(name)!r}: {name.source} cannot be read: {in_one_line(error)}.") from None
    identity = hashlib.sha256(str(path).encode() + b"\0" + text).hexdigest()[:12]
    module_name = f"{MODULES}.{path.stem}_{identity}"
    if (known := sys.modules.get(module_name)) is not None:
        return known
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101  a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before it runs: dataclasses look their module up while they are made
    folder = str(path.parent)
    sys.path.insert(0, folder)  # as `python file.py` does: what lies beside it can be imported
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        raise_interrupt(error)
        raise UsageError(f"{key} {str(name)!r}: {name.source} cannot be run: {_brief(error)}.") from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:  # for imports inside its functions, behind everything that is installed
            sys.path.append(folder)
    return module


def _load_module(name: CodeName, key: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:  # behind everything that is installed
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()  # a file may be younger than the last look into its folder
    try:
        return importlib.import_module(name.source)
    except ModuleNotFoundError as error:
        if error.name and f"{name.source}.".startswith(f"{error.name}."):
            file = f"{name.source.replace('.', '/')}.py"
            raise UsageError(
                f"{key} {str(name)!r}: there is no module {error.name}. Is its package installed, or its folder the "
                f"current one? A file is named with its ending: {CodeName(file, name.attribute)}."
            ) from error
        raise UsageError(f"{key} {str(name)!r}: {name.source} cannot be run: {_brief(error)}.") from error
    except BaseException as error:
        raise_interrupt(error)
        raise UsageError(f"{key} {str(name)!r}: {name.source} cannot be run: {_brief(error)}.") from error


def _brief(error: BaseException) -> str:
    """Format an exception with the line that raised it; of a syntax error with its own line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    return in_one_line(error)


def _seen_from(source: str) -> str:
    """Return ' in /the/current/folder' for a relative path."""
    return "" if Path(source).is_absolute() else f" in {Path.cwd()}"
