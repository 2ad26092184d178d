"""flowrl and its samplers do not import or name each other; entry points are the only connection."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "flowrl"
SAMPLERS = ROOT / "samplers" / "flowrl_samplers"

ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["flowrl.samplers"]
WITHOUT_SAMPLERS = [
    *sorted((SOURCE / "training").rglob("*.py")),
    *sorted((SOURCE / "flow").rglob("*.py")),
    *sorted((SOURCE / "policies").rglob("*.py")),
    *sorted((SOURCE / "networks").rglob("*.py")),
]


def mentions(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every import, name and string of `source` that names `package`, docstrings excepted."""
    pattern = re.compile(rf"(?<![\w.]){package}(?!\w)")
    tree = ast.parse(source)
    bodies = [body for node in ast.walk(tree) if isinstance(body := getattr(node, "body", None), list)]
    documentation = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        texts: list[str] = []
        if isinstance(node, ast.Import):
            texts = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            texts = [node.module or ""]
        elif isinstance(node, ast.Name):
            texts = [node.id]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            texts = [node.value]
        yield from ((node.lineno, text) for text in texts if pattern.search(text))


def mentions_in(folder: Path, package: str) -> list[str]:
    """`file:line: text` of every mention of `package` in the source files of `folder`."""
    files = sorted(folder.rglob("*.py"))
    assert files
    return [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in files
        for line, text in mentions(path.read_text(), package)
    ]


def test_flowrl_never_names_the_samplers_package() -> None:
    assert mentions_in(SOURCE, "flowrl_samplers") == []


def test_samplers_never_name_flowrl() -> None:
    assert mentions_in(SAMPLERS, "flowrl") == []


@pytest.mark.parametrize(
    "source",
    [
        "import flowrl_samplers.euler",
        "from flowrl_samplers import euler",
        "def f():\n    from flowrl_samplers.euler import Euler",
        "importlib.import_module('flowrl_samplers.euler')",
        "name = f'flowrl_samplers.{sampler}'",
        "PACKAGE = 'flowrl_samplers'",
    ],
)
def test_a_mention_is_found(source: str) -> None:
    assert list(mentions(source, "flowrl_samplers")) != []


def test_a_docstring_may_mention_the_other_package() -> None:
    assert list(mentions('"""Unlike flowrl_samplers."""\nimport flowrl_samplers_of_mine', "flowrl_samplers")) == []


def sampler_words(source: str) -> list[str]:
    """`line: word` where a sampler is named: in code, strings and comments, also inside a longer name."""
    return [
        f"{number}: {word}"
        for number, line in enumerate(source.splitlines(), start=1)
        # EulerStep, euler_step, RK4 and heun2 are the words Euler Step, euler step, RK4 and heun2
        for word in re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*(?![a-z])", line)
        if {word.lower(), word.lower().rstrip("0123456789")} & set(ENTRY_POINTS)
    ]


def test_training_flow_policies_and_networks_name_no_sampler() -> None:
    assert len(WITHOUT_SAMPLERS) > 15
    found = [
        f"{path.relative_to(ROOT)}:{word}" for path in WITHOUT_SAMPLERS for word in sampler_words(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "x = x + h * v  # Euler",
        'sampler = "rk4"',
        "class HeunPolicy: ...",
        "euler_steps = 10",
        "RK4 = 4",
        "from somewhere import AB2",
        "dopri5(velocity)",
    ],
)
def test_a_sampler_name_is_found(source: str) -> None:
    assert sampler_words(source) != []


def test_other_words_are_not_samplers() -> None:
    assert sampler_words("eulerian = heunish  # the middle point, ab, rk, PPO2") == []
