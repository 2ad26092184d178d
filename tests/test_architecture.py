"""The rooms of the tree, the imports allowed between them, and limits on names, words and lengths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "flowrl"
SAMPLERS = ROOT / "samplers" / "flowrl_samplers"

# From the top down: a room imports what is below it, and itself. Rooms on one floor do not import each other.
FLOORS = [
    ("cli",),
    ("experiments",),
    ("reporting", "deployment"),
    ("config",),
    ("evaluation", "training", "policies"),
    ("envs", "networks", "flow", "samplers", "storage"),
    ("contracts",),
]
FLOOR_OF = {room: depth for depth, floor in enumerate(FLOORS) for room in floor}

# The loss and the policies do not depend on the samplers.
MAY_IMPORT_SAMPLERS = {"cli", "experiments", "deployment", "config", "samplers"}

# A policy is deployed without the code that trained it.
WITHOUT_TRAINING = {"deployment", "policies", "networks", "flow"}

GENERIC_NAMES = {"utils", "util", "common", "base", "core", "helpers", "helper", "misc"}

LONGEST_FUNCTION = 55  # lines; a command's declarations of options are not counted
LONGEST_FILE = 350  # lines

# Words that are not the field's: "reports", "is", "again", "third-party" say what they were used for.
REFUSED_WORDS = re.compile(r"\b(told|tells|anew|heard|strangers?|whoever)\b", re.IGNORECASE)


def source_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path, package: Path) -> str:
    """src/flowrl/cli/__init__.py -> flowrl.cli"""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in `source`, of calls to an importer too, at any depth.

    `from a import b` counts as a.b, because b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                kept = module.split(".")[: len(module.split(".")) - node.level + is_package]
                origin = ".".join([*kept, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__", "find_spec"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def room_of(module: str) -> str:
    """flowrl.envs.gridworld -> envs; flowrl -> ''."""
    return module.split(".")[1] if "." in module else ""


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports in `source`, the text of `module`, that are not allowed."""
    room = room_of(module)
    if room not in FLOOR_OF:
        return [f"{module} is in no room: give it a place in FLOORS of tests/test_architecture.py"]
    found = []
    for line, target in imports(source, module, is_package):
        if target.split(".")[0] != "flowrl" or target == "flowrl.__version__":
            continue
        other = room_of(target)
        if other not in FLOOR_OF:
            found.append(f"{module}:{line} imports {target}, which is in no room")
        elif other != room and FLOOR_OF[other] <= FLOOR_OF[room]:
            found.append(f"{module}:{line} imports {target}, which is not below it")
        elif other == "samplers" and room not in MAY_IMPORT_SAMPLERS:
            found.append(f"{module}:{line} imports {target}: {room} must not depend on the samplers")
    return found


def all_imports(*rooms: str) -> Iterator[tuple[str, str]]:
    """(module, imported module) for every file of the `rooms`, or of all of them."""
    for path in source_files(SOURCE):
        module = module_name(path, SOURCE)
        if not rooms or room_of(module) in rooms:
            for _, target in imports(path.read_text(), module, path.name == "__init__.py"):
                yield module, target


def test_the_rooms_are_those_of_the_plan() -> None:
    present = {path.name for path in SOURCE.iterdir()} - {"__pycache__"}
    assert present == {*FLOOR_OF, "__init__.py", "__init__.pyi", "__main__.py", "py.typed"}
    assert len(FLOOR_OF) == 14


def test_imports_point_down() -> None:
    found = [
        fault
        for path in source_files(SOURCE)
        if (module := module_name(path, SOURCE)) not in ("flowrl", "flowrl.__main__")
        for fault in faults(path.read_text(), module, path.name == "__init__.py")
    ]
    assert found == []


def test_the_package_itself_imports_nothing() -> None:
    assert list(imports((SOURCE / "__init__.py").read_text(), "flowrl", is_package=True)) == []


def test_policies_can_be_deployed_without_training() -> None:
    arrows = {(room_of(module), room_of(target)) for module, target in all_imports(*WITHOUT_TRAINING)}
    assert {(room, other) for room, other in arrows if other in ("training", "experiments")} == set()


@pytest.mark.parametrize("arguments", [["-c", "import flowrl"], ["-m", "flowrl", "--help"]])
def test_torch_is_imported_only_where_it_is_needed(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "flowrl" in imported
    assert "torch" not in imported


def test_samplers_import_torch_and_torchdiffeq_only() -> None:
    allowed = {"torch", "torchdiffeq", "flowrl_samplers", *sys.stdlib_module_names}
    used = {
        target.split(".")[0]
        for path in source_files(SAMPLERS)
        for _, target in imports(path.read_text(), module_name(path, SAMPLERS), path.name == "__init__.py")
    }
    assert "torch" in used
    assert used <= allowed


def test_no_module_has_a_generic_name() -> None:
    names = {
        part.strip("_") for folder in (SOURCE, SAMPLERS) for path in source_files(folder)
        for part in path.relative_to(folder).with_suffix("").parts
    }  # fmt: skip
    assert names & GENERIC_NAMES == set()


def class_names(source: str) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def test_class_names_are_unique() -> None:
    count = Counter(
        name for folder in (SOURCE, SAMPLERS) for path in source_files(folder) for name in class_names(path.read_text())
    )
    assert len(count) > 100
    assert [name for name, uses in count.items() if uses > 1] == []


def functions(source: str, is_command: bool = False) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function; in a file of cli/ without its parameters and its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.lineno
            if is_command:
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                first = node.body[int(documented)].lineno
            yield node.name, (node.end_lineno or first) - first + 1


def test_no_function_is_long() -> None:
    found = [
        f"{module_name(path, folder)}.{name}: {lines} lines"
        for folder in (SOURCE, SAMPLERS)
        for path in source_files(folder)
        for name, lines in functions(path.read_text(), path.is_relative_to(SOURCE / "cli"))
        if lines > LONGEST_FUNCTION
    ]
    assert found == []


def test_no_file_is_long() -> None:
    found = [
        f"{module_name(path, folder)}: {lines} lines"
        for folder in (SOURCE, SAMPLERS)
        for path in source_files(folder)
        if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    ]
    assert found == []


def test_refused_words_are_not_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word.group()}"
        for folder in (SOURCE, SAMPLERS.parent)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".md", ".yaml", ".xml")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for word in REFUSED_WORDS.finditer(line)
    ]
    assert found == []


def defined_names(path: Path) -> set[str]:
    """The classes, functions and variables that a file defines at its top level; what it imports is not among them."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_defined(dotted: str) -> bool:
    """Whether flowrl.a.b is a package, a module, or a name that the file of flowrl.a defines; of a.Class.b, a.Class."""
    *parents, name = re.sub(r"(\.[A-Z]\w*)\..*", r"\1", dotted).split(".")
    folder = SOURCE.parent.joinpath(*parents)
    if (folder / name).is_dir() or (folder / f"{name}.py").is_file():
        return True
    return any(
        name in defined_names(path) for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()
    )


def test_names_in_backticks_are_those_of_the_modules_that_define_them() -> None:
    found = [
        f"{module_name(path, SOURCE)}: {dotted}"
        for path in source_files(SOURCE)
        for dotted in re.findall(r"`(flowrl(?:\.\w+)+)`", path.read_text())
        if not is_defined(dotted)
    ]
    assert found == []


# --- the checks find planted faults


def test_a_class_name_used_twice_is_found() -> None:
    source = "class Plan:\n    class Step: ...\ndef f():\n    class Plan: ..."
    assert Counter(class_names(source)) == {"Plan": 2, "Step": 1}


def test_the_length_of_a_function_is_measured() -> None:
    source = 'def f(\n    x,\n):\n    """Doc."""\n    a = 1\n    return a\n'
    assert list(functions(source)) == [("f", 6)]
    assert list(functions(source, is_command=True)) == [("f", 2)]


@pytest.mark.parametrize("text", ["is told twice", "Strangers may", "begins anew", "whoever"])
def test_a_refused_word_is_found(text: str) -> None:
    assert REFUSED_WORDS.search(text)
    assert not REFUSED_WORDS.search("retold, estranged: a renewal")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("flowrl.flow.path", "from flowrl.training import gae"),
        ("flowrl.flow.path", "from flowrl import policies"),
        ("flowrl.flow.path", "from .. import policies"),
        ("flowrl.flow.path", "from ..policies.flow import FlowPolicy"),
        ("flowrl.envs.gridworld", "def f():\n    import flowrl.policies"),
        ("flowrl.policies.flow", "from flowrl.samplers import registry"),
        ("flowrl.evaluation.latency", "import importlib\nimportlib.import_module('flowrl.policies.flow')"),
        ("flowrl.samplers.registry", "if TYPE_CHECKING:\n    from flowrl.policies.flow import FlowPolicy"),
        ("flowrl.contracts.errors", "from flowrl import storage"),
        ("flowrl.config.schema", "from flowrl.experiments.build import Run"),
        ("flowrl.surprise", "import math"),
        ("flowrl.policies.flow", "from flowrl import surprise"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    assert faults(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("flowrl.training.learner", "from flowrl.flow.matching import cfm_loss\nfrom . import ratio"),
        ("flowrl.samplers.conformance", "from flowrl.samplers import registry\nfrom flowrl import __version__"),
        ("flowrl.config.recipe", "from flowrl.config.schema import Config"),
        ("flowrl.cli.train", "from flowrl.experiments.train import train\nfrom flowrl.cli.output import say"),
        ("flowrl.envs.factory", "from .gridworld import GridWorld\nimport numpy"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert faults(source, module) == []


def test_an_imported_name_is_not_a_definition() -> None:
    assert is_defined("flowrl.envs.state_encoding.Encoder") and is_defined("flowrl.envs.state_capture")
    assert not is_defined("flowrl.envs.state_capture.Encoder")
