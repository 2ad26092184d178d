"""Only the files of a family of environments name it: generic files ask its record."""

from __future__ import annotations

import ast
import re

import pytest

from tests.test_architecture import SOURCE, source_files

FAMILY_FILES = (
    *("envs/families.py", "envs/gridworld.py", "envs/dm_control/", "envs/gymnasium_mujoco/", "envs/humanoid/"),
    *("cli/motions.py", "experiments/motions.py", "experiments/gridworld_plot.py"),
)
"""The folders of the families, the table of all, and the commands that only one family has."""

ENVIRONMENT = re.compile(r"flowrl/\w+-v\d|humanoid|DMControl|(CheetahRun|HalfCheetah|Hopper)-v\d", re.IGNORECASE)


def family_names(source: str) -> list[str]:
    """Where a family of environments is named, as `line: name`: in imports, names and strings.

    Docstrings and the texts of `--help` are for readers and may give examples.
    """
    tree = ast.parse(source)
    for_readers = {
        id(text)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "help")
        for text in ast.walk(node.value)
        if isinstance(node.value, ast.Constant | ast.JoinedStr)
    }
    found = []
    for node in ast.walk(tree):
        fields = [value for _, value in ast.iter_fields(node) if isinstance(value, str)]
        if fields and id(node) not in for_readers:
            found += [f"{getattr(node, 'lineno', 0)}: {text}" for text in fields if ENVIRONMENT.search(text)]
    return found


def test_generic_files_name_no_family_of_environments() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{name}"
        for path in source_files(SOURCE)
        if not str(path.relative_to(SOURCE)).startswith(FAMILY_FILES)
        for name in family_names(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'if id == "flowrl/GridWorld-v0":\n    pass',
        "from flowrl.envs.humanoid import tracking",
        "import flowrl.envs.humanoid.tracking",
        "HUMANOID_RANGE = (0.0, 300.0)",
        "def humanoid_facts() -> None: ...",
        "registration.HUMANOID",
        "range(humanoid=1)",
        'x = f"{a} of HumanoidTrack"',
        'NATIVE = ("Hopper-v5",)',
    ],
)
def test_a_name_of_a_family_is_found(source: str) -> None:
    assert family_names(source) != []


def test_docstrings_and_help_may_name_a_family() -> None:
    source = '"""Such as flowrl/GridWorld-v0."""\nx = 1\n"""Of a humanoid."""\nOption(help="As Humanoid-v5.")'
    assert family_names(source) == []
