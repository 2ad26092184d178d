"""Where modules stand and whom they may import: every arrow points down the list."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    ("reporting",),
    ("config",),
    ("evaluation", "training", "policies"),
    ("envs", "networks", "flow", "samplers", "storage"),
    ("contracts",),
]
FLOOR_OF = {room: depth for depth, floor in enumerate(FLOORS) for room in floor}

# The loss and the policies never see which samplers there are.
MAY_IMPORT_SAMPLERS = {"cli", "experiments", "deployment", "config", "samplers"}

# A policy is deployed without the code that trained it.
WITHOUT_TRAINING = {"deployment", "policies", "networks", "flow"}

NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "base", "core", "helpers", "helper", "misc"}


def source_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path, package: Path) -> str:
    """src/flowrl/cli/__init__.py -> flowrl.cli"""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of everything that `source` imports or names to an importer, wherever it is written.

    `from a import b` counts as a.b, for b may be a module; what it is shows only when it is imported.
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
        elif isinstance(node, ast.Call) and _name_of(node.func) in (
            "import_module",
            "__import__",
            "find_spec",
        ):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def room_of(module: str) -> str:
    """flowrl.envs.gridworld -> envs; the package itself, which holds the version alone, -> ''."""
    return module.split(".")[1] if "." in module else ""


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of `source`, the text of `module`."""
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
            found.append(f"{module}:{line} imports {target}: {room} must not know the samplers")
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
    assert present == {*FLOOR_OF, "__init__.py", "__main__.py", "py.typed"}
    assert len(FLOOR_OF) == 13


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
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "flowrl" in imported
    assert "torch" not in imported


def test_samplers_stand_on_torch_alone() -> None:
    allowed = {"torch", "torchdiffeq", "flowrl_samplers", *sys.stdlib_module_names}
    used = {
        target.split(".")[0]
        for path in source_files(SAMPLERS)
        for _, target in imports(path.read_text(), module_name(path, SAMPLERS), path.name == "__init__.py")
    }
    assert "torch" in used
    assert used <= allowed


def test_no_module_is_named_after_nothing() -> None:
    names = {
        part.strip("_") for folder in (SOURCE, SAMPLERS) for path in source_files(folder)
        for part in path.relative_to(folder).with_suffix("").parts
    }  # fmt: skip
    assert names & NAMES_THAT_SAY_NOTHING == set()


# ------------------------------------------------------------------------------- the checks check something


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
        (
            "flowrl.samplers.conformance",
            "from flowrl.samplers import registry\nfrom flowrl import __version__",
        ),
        ("flowrl.config.recipe", "from flowrl.config.schema import Config"),
        ("flowrl.cli.train", "from flowrl.experiments.train import train\nfrom flowrl.cli.output import say"),
        ("flowrl.envs.factory", "from .gridworld import GridWorld\nimport numpy"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert faults(source, module) == []
