"""The archives that users install, built by hatchling: sources -> sdist -> wheel."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IGNORED_RESULTS = {"docs/results/gridworld.json", "docs/results/sampler_table.json"}  # in .gitignore


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    out = tmp_path_factory.mktemp("sdist")
    build(ROOT, "sdist", out)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(out, filter="data")
    return next(path for path in out.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the unpacked source distribution."""
    out = tmp_path_factory.mktemp("wheel")
    build(sdist, "wheel", out)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def build(folder: Path, target: str, out: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def contents(folder: Path) -> set[str]:
    """Every file of a source package, as a wheel names it."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder.parent).as_posix() for path in files}


def test_the_wheel_holds_all_of_both_packages(wheel: zipfile.ZipFile) -> None:
    expected = contents(ROOT / "src" / "flowrl") | contents(ROOT / "samplers" / "flowrl_samplers")
    assert {"flowrl/py.typed", "flowrl_samplers/py.typed", "flowrl/config/recipes/gridworld.yaml"} <= expected
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packaged == expected


def test_the_wheel_installs_no_generic_top_level_name(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top - {name for name in top if name.endswith(".dist-info")} == {"flowrl", "flowrl_samplers"}


def test_the_wheel_registers_the_command_and_every_sampler(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    registered = configparser.ConfigParser()
    registered.read_string(wheel.read(name).decode())
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert dict(registered["console_scripts"]) == {"flowrl": "flowrl.cli:main"}
    assert dict(registered["flowrl.samplers"]) == declared["entry-points"]["flowrl.samplers"]


def test_the_wheels_metadata(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = wheel.read(name).decode()
    assert "\nName: flowrl-cli\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nProject-URL: Paper, https://arxiv.org/abs/2507.21053\n" in metadata
    assert "\nAuthor: flowrl maintainers\n" in metadata
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_source_distribution_holds_all_that_its_tests_read(sdist: Path) -> None:
    for part in ("src", "samplers", "tests", "docs", "scripts", "benchmarks", ".github"):
        assert contents(ROOT / part) - IGNORED_RESULTS <= contents(sdist / part), part
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "pyproject.toml", "constraints.txt"):
        assert (sdist / name).is_file()
    for name in ("Makefile", "CHANGELOG.md", ".pre-commit-config.yaml", ".ci/run"):
        assert (sdist / name).is_file()


@pytest.mark.slow
@pytest.mark.long
def test_the_source_distribution_passes_its_tests(sdist: Path) -> None:
    """The tests that read other files than Python's sources, in the unpacked archive."""
    tests = (
        *("tests/test_architecture.py", "tests/test_decoupling.py", "tests/test_project_files.py"),
        *("tests/config/test_docs.py", "tests/samplers/test_readme.py"),
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = os.environ | {"PYTHONPATH": f"{sdist / 'src'}{os.pathsep}{sdist / 'samplers'}"}
    done = subprocess.run(command, cwd=sdist, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
