from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from flowrl.cli import installation, run
from flowrl.samplers import discovery


@pytest.fixture(autouse=True)
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not start MuJoCo in new processes, which takes seconds."""
    monkeypatch.setattr(installation, "_renders", lambda backend: backend != "osmesa")


def outcome(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document of `flowrl doctor --json`."""
    code = run(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in document["checks"]}


def test_a_working_installation_is_usable(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = outcome(capsys)
    assert code == 0
    assert document["usable"] is True
    found = states(document)
    for name in ("python", "flowrl-cli", "torch", "torchdiffeq", "gymnasium", "mujoco", "numpy", "pydantic", "typer"):
        assert found[name] == "ok"
    for name in ("torch on cpu", "simulation", "rendering", "samplers", "recipes"):
        assert found[name] == "ok"
    assert all(check["remedy"] for check in document["checks"] if check["state"] != "ok")


def test_a_built_in_sampler_that_needs_the_numbers_of_a_policy_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = outcome(capsys)
    assert [check for check in document["checks"] if check["name"].startswith("sampler ")] == []
    (found,) = [check["found"] for check in document["checks"] if check["name"] == "samplers"]
    assert "fitted" in found and "euler" in found


def test_the_report_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    printed = capsys.readouterr()
    assert any(line.split()[:2] == ["ok", "python"] for line in printed.out.splitlines())
    assert printed.err.splitlines()[-1].startswith("next: ")


def require(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Replace the requirements in flowrl's metadata."""
    monkeypatch.setattr(installation.metadata, "requires", lambda name: list(lines))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("not-to-be-found>=1.0", "not installed, needs >=1.0"),
        ("not-to-be-found", "not installed, needs any version"),
        ("numpy>=9999", ", needs >=9999"),
        ("numpy<1.0", ", needs <1.0"),
        ("numpy~=1.0; python_version >= '3'", ", needs ~=1.0"),
    ],
)
def test_a_missing_requirement_makes_it_unusable(
    line: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require(monkeypatch, line, "torch>=2.6")
    code, document = outcome(capsys)
    assert code == 8
    assert document["usable"] is False
    (problem,) = [check for check in document["checks"] if check["state"] == "problem"]
    assert line.startswith(problem["name"])
    assert found in problem["found"]
    assert " -m pip install" in problem["remedy"] or problem["remedy"].startswith("pip install")


def test_requirements_of_other_interpreters_and_groups_are_not_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "not-to-be-found; sys_platform == 'nowhere'"
    grouped = "numpy>=1.0; sys_platform == 'nowhere' and extra == 'video'"
    require(monkeypatch, "numpy>=1.0", other, grouped, "flowrl-cli[video]; extra == 'test'")
    code, document = outcome(capsys)
    assert code == 0
    assert states(document)["numpy"] == "ok"
    assert {"not-to-be-found", "flowrl-cli[video]"}.isdisjoint(states(document))
    assert [states(document)[name] for name in ("[video]", "[test]")] == ["ok", "ok"]


def test_a_version_with_a_local_part_and_a_pre_release_fulfil_a_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("2.13.0+cpu", "2.13", "2.14.0rc1"):
        monkeypatch.setattr(installation.metadata, "version", lambda name, found=version: found)
        assert installation._fulfilled(Requirement("torch>=2.6"))
        assert not installation._fulfilled(Requirement("torch>=2.15"))


def test_the_doctor_runs_without_packaging(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    code, document = outcome(capsys)
    assert code == 8
    problems = {check["name"]: check["found"] for check in document["checks"] if check["state"] == "problem"}
    assert "packaging" in problems["requirements"]
    assert states(document)["simulation"] == "ok"


def test_a_missing_extra_is_a_warning_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require(monkeypatch, "not-to-be-found>=1.0; extra == 'video'", 'numpy>=1.0 ; extra == "video"')
    code, document = outcome(capsys)
    assert code == 0
    (video,) = [check for check in document["checks"] if check["name"] == "[video]"]
    assert video["state"] == "warning"
    assert video["found"] == "not installed: not-to-be-found"
    assert "[video]" in video["remedy"]


def test_an_unrelated_distribution_of_the_same_name_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flowrl-0.2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: flowrl\nVersion: 0.2.0\n")
    assert "namesake" not in states(outcome(capsys)[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    code, document = outcome(capsys)
    assert code == 0
    (namesake,) = [check for check in document["checks"] if check["name"] == "namesake"]
    assert "flowrl 0.2.0" in namesake["found"]
    assert "pip uninstall flowrl && " in namesake["remedy"]


def test_no_headless_rendering_is_a_warning_that_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "_renders", lambda backend: False)
    monkeypatch.setattr(installation.sys, "platform", "linux")
    code, document = outcome(capsys)
    assert code == 0
    (rendering,) = [check for check in document["checks"] if check["name"] == "rendering"]
    assert rendering["state"] == "warning"
    assert "libegl1" in rendering["remedy"]
    assert "libosmesa6" in rendering["remedy"]


def test_a_sampler_file_without_an_entry_point_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = discovery.offers()
    monkeypatch.setattr(discovery, "offers", lambda: {n: offer for n, offer in known.items() if n != "heun"})
    (samplers,) = [check for check in outcome(capsys)[1]["checks"] if check["name"] == "samplers"]
    assert samplers["state"] == "warning"
    assert "no entry point for heun.py:" in samplers["found"]


def test_a_sampler_that_cannot_be_loaded_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("broken", "no_such_package:Sampler", discovery.GROUP)
    registry = importlib.import_module("flowrl.samplers.registry")
    offers = {**discovery.offers(), "broken": [broken]}
    monkeypatch.setattr(registry, "offers", lambda: offers)
    code, document = outcome(capsys)
    assert code == 0
    assert states(document)["sampler broken"] == "warning"


def test_a_check_that_raises_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pytorch() -> None:
        raise ImportError("libtorch.so: cannot open shared object file")

    monkeypatch.setattr(installation, "pytorch", pytorch)
    code, document = outcome(capsys)
    assert code == 8
    assert states(document)["pytorch"] == "problem"
    assert states(document)["recipes"] == "ok"
