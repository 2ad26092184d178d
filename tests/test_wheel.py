"""What is built from the sources is what users install: sources -> sdist -> wheel, by hatchling alone."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
    """The wheel, built from the source distribution alone."""
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


def test_the_wheel_holds_both_packages_whole(wheel: zipfile.ZipFile) -> None:
    expected = contents(ROOT / "src" / "flowrl") | contents(ROOT / "samplers" / "flowrl_samplers")
    assert {"flowrl/py.typed", "flowrl_samplers/py.typed", "flowrl/config/recipes/gridworld.yaml"} <= expected
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packaged == expected


def test_nothing_generic_is_put_beside_other_peoples_packages(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top - {name for name in top if name.endswith(".dist-info")} == {"flowrl", "flowrl_samplers"}


def test_the_wheel_offers_the_command_and_every_sampler(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    offered = configparser.ConfigParser()
    offered.read_string(wheel.read(name).decode())
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert dict(offered["console_scripts"]) == {"flowrl": "flowrl.cli:main"}
    assert dict(offered["flowrl.samplers"]) == declared["entry-points"]["flowrl.samplers"]


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = wheel.read(name).decode()
    assert "\nName: flowrl-cli\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_sources_can_be_tested(sdist: Path) -> None:
    for part in (
        "tests/test_wheel.py",
        "samplers/README.md",
        "README.md",
        "pyproject.toml",
        "constraints.txt",
    ):
        assert (sdist / part).is_file()
