"""Where modules stand and whom they may import: every arrow points down the list."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "flowrl"
SAMPLERS = ROOT / "samplers" / "flowrl_samplers"

# From the top down. A module imports what stands below it, and its own noun; the nouns of one set do not
# import each other. Modules joined by a plus are one noun.
LAYERS = [
    {"__main__"},
    {"cli"},
    {
        "portrait",
        "matrix+pool+stage+result+pace",
        "grid+comparing+caveats",
        "playing",
        "motion_pictures",
        "benchmark",
    },
    {"examination", "experiment", "cell", "doctor"},  # an evaluation, a training run: what a command asks for
    {"assembly"},
    {"reporting"},
    {"config"},
    {
        "samplers",
        "envs",
        "policies",
        "evaluation",
    },
    {"training"},
    {"networks"},
    {"flow"},
    {
        "comparison",
        "interruption",
        "storage",
    },  # each stands alone
    {"contracts"},
]

NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "base", "core", "helpers", "helper", "misc"}

FLOOR_OF_NOUN = {
    module: (depth, noun)
    for depth, layer in enumerate(LAYERS)
    for noun in layer
    for module in noun.split("+")
}


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


def noun_of(module: str) -> str:
    """flowrl.envs.gridworld -> envs; the package itself, which holds the version alone, -> ''."""
    return module.split(".")[1] if "." in module else ""


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of `source`, standing in `module`."""
    if noun_of(module) not in FLOOR_OF_NOUN:
        return [f"{module} stands in no layer: give it a place in LAYERS of tests/test_architecture.py"]
    depth, noun = FLOOR_OF_NOUN[noun_of(module)]
    found = []
    for line, target in imports(source, module, is_package):
        if target.split(".")[0] != "flowrl" or target == "flowrl.__version__":
            continue
        if noun_of(target) not in FLOOR_OF_NOUN:
            found.append(f"{module}:{line} imports {target}, which stands in no layer")
            continue
        target_depth, target_noun = FLOOR_OF_NOUN[noun_of(target)]
        if target_noun != noun and target_depth <= depth:
            found.append(f"{module}:{line} imports {target}, which does not stand below it")
    return found


@pytest.mark.parametrize("path", source_files(SOURCE), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    module = module_name(path, SOURCE)
    if module == "flowrl":
        assert list(imports(path.read_text(), module)) == []  # the version, nothing else
        return
    assert faults(path.read_text(), module, path.name == "__init__.py") == []


def test_only_the_top_imports_the_registry() -> None:
    users = {
        noun_of(module_name(path, SOURCE))
        for path in source_files(SOURCE)
        for _, target in imports(path.read_text(), module_name(path, SOURCE), path.name == "__init__.py")
        if target.startswith("flowrl.samplers.registry")
    }
    above = {"assembly", "config", "benchmark", "doctor", "cli"}
    assert {"assembly", "config"} <= users <= above | {"samplers"}


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


def test_every_layer_is_real() -> None:
    """A noun that has gone must leave the list, or the list stops being a map."""
    missing = [
        noun for noun in FLOOR_OF_NOUN
        if not (SOURCE / noun).is_dir() and not (SOURCE / f"{noun}.py").is_file()
    ]  # fmt: skip
    assert missing == []


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
        ("flowrl.evaluation.latency", "import importlib\nimportlib.import_module('flowrl.assembly')"),
        ("flowrl.samplers.registry", "if TYPE_CHECKING:\n    from flowrl.policies.flow import FlowPolicy"),
        ("flowrl.contracts.errors", "from flowrl import storage"),
        ("flowrl.config.schema", "from flowrl.assembly import build"),
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
        ("flowrl.cli.train", "from flowrl.assembly import build\nfrom flowrl.cli.output import say"),
        ("flowrl.envs.factory", "from .gridworld import GridWorld\nimport numpy"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str) -> None:
    assert faults(source, module) == []
