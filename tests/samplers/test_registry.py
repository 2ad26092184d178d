"""From names to samplers: the installed entry points, third-party packages, and files."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.samplers import discovery, registry
from flowrl.samplers.registry import SamplerSettings

ROOT = Path(__file__).parents[2]
BUILT_IN = {"ab2", "dopri5", "euler", "heun", "midpoint", "ralston", "rk4"}

SAMPLER = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Lazy:
    steps: int = 10
    weight: float = 0.5
    order: ClassVar[int] = 7
    nfe_per_step: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.weight > 1:
            raise ValueError(f"weight must be at most 1, not {self.weight}")

    def __call__(self, velocity, x, t0, t1):
        return x


def lazy(velocity, x, t0, t1):
    return x


class Silent:
    pass
"""


def install(folder: Path, distribution: str, module: str, source: str, *offers: str) -> None:
    """Write to `folder` what pip would: a module, and the distribution's metadata with its entry points."""
    (folder / f"{module}.py").write_text(source)
    information = folder / f"{distribution}-2.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.5\n")
    (information / "entry_points.txt").write_text("\n".join(["[flowrl.samplers]", *offers]))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def refusal(name: str, **options: object) -> str:
    with pytest.raises(UsageError) as refused:
        registry.make(name, options)
    return str(refused.value)


# --- the built-ins


def test_installed_entry_points_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = importlib.metadata.distribution("flowrl-cli").entry_points.select(group=discovery.GROUP)
    assert {offer.name: offer.value for offer in installed} == project["entry-points"][discovery.GROUP], (
        "the installed entry points are not those of pyproject.toml: run `pip install -e . --no-deps` again"
    )


def test_every_sampler_file_has_its_entry_point() -> None:
    names = [f"flowrl_samplers.{file.stem}" for file in (ROOT / "samplers/flowrl_samplers").glob("[!_]*.py")]
    callable_classes = {
        f"{name}:{kind.__name__}"
        for name in names
        for kind in vars(importlib.import_module(name)).values()
        if isinstance(kind, type)
        and kind.__module__ == name
        and any("__call__" in vars(ancestor) for ancestor in kind.__mro__)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = set(project["entry-points"][discovery.GROUP].values())
    assert offered == callable_classes
    assert {name for name in names if discovery.defines_a_sampler(name)} == {
        target.partition(":")[0] for target in offered
    }


def test_built_ins_are_listed_and_made_with_their_options() -> None:
    assert set(registry.names()) >= BUILT_IN
    for name in BUILT_IN - {"dopri5"}:
        sampler = registry.make(name, {"steps": 3})
        assert sampler.nfe == 3 * sampler.nfe_per_step  # type: ignore[attr-defined]
    assert registry.make("dopri5", {"rtol": 1, "max_nfe": 50}).max_nfe == 50  # type: ignore[attr-defined]


def test_descriptions_match_the_classes() -> None:
    for row in discovery.describe():
        if row.name in BUILT_IN:
            assert row.error is None
            sampler = registry.make(row.name)
            assert row.order == sampler.order  # type: ignore[attr-defined]
            counted = sampler.nfe_per_step is None  # type: ignore[attr-defined]
            assert row.nfe_per_step == ("counted" if counted else sampler.nfe_per_step)  # type: ignore[attr-defined]
            assert {option.name: eval(option.default) for option in row.options} == vars(sampler)  # noqa: S307
            assert row.origin.startswith("flowrl-cli ")


def test_the_registry_and_the_names_need_no_torch() -> None:
    """Settings and `--help` read both; only `describe` imports the samplers."""
    program = """
import sys
from flowrl.samplers import discovery, registry
assert "heun" in registry.names()
heavy = {"torch", "torchdiffeq", "numpy", "flowrl_samplers.euler", "flowrl_samplers.dopri5"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


# --- third-party packages


def test_a_third_party_sampler_is_described_and_made(path: Path) -> None:
    install(path, "third", "third_samplers", SAMPLER, "lazy = third_samplers:Lazy")
    (row,) = [row for row in discovery.describe() if row.name == "lazy"]
    assert (row.order, row.nfe_per_step, row.origin, row.error) == (7, 0, "third 2.5", None)
    assert row.options == (discovery.Option("steps", "int", "10"), discovery.Option("weight", "float", "0.5"))
    assert registry.make("lazy", {"weight": 0.25}).weight == 0.25  # type: ignore[attr-defined]
    del sys.modules["third_samplers"]


def test_a_plain_class_is_described_by_its_constructor(path: Path) -> None:
    source = """
class Odd:
    order = 3
    nfe = property(lambda self: 5)
    nfe_per_step = property(lambda self: 5)
    def __init__(self, a, b: int = 2, *, c: "float", d=True): ...
    def __call__(self, velocity, x, t0, t1): ...
"""
    install(path, "odd", "odd_samplers", source, "odd = odd_samplers:Odd")
    (row,) = [row for row in discovery.describe() if row.name == "odd"]
    assert (row.order, row.nfe_per_step, row.error) == (3, None, None)
    assert [(option.name, option.type, option.default) for option in row.options] == [
        ("a", None, None),
        ("b", "int", "2"),
        ("c", "float", None),
        ("d", None, "True"),
    ]
    del sys.modules["odd_samplers"]


def test_options_and_attributes_of_base_classes_are_described(path: Path) -> None:
    source = """
from dataclasses import dataclass
from flowrl_samplers.euler import Euler
@dataclass(frozen=True)
class Derived(Euler):
    power: float = 2.0
    steps: int = 4
    order = 2
"""
    install(path, "family", "family_samplers", source, "derived = family_samplers:Derived")
    (row,) = [row for row in discovery.describe() if row.name == "derived"]
    assert (row.order, row.nfe_per_step) == (2, 1)
    assert [(option.name, option.default) for option in row.options] == [("steps", "4"), ("power", "2.0")]
    assert discovery.defines_a_sampler("family_samplers")
    assert not discovery.defines_a_sampler("flowrl_samplers.errors")
    del sys.modules["family_samplers"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('needs a licence')", "RuntimeError: needs a licence"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("class Broken", "SyntaxError: expected ':' (line 1)"),
        ("raise SystemExit('not on this machine')", "SystemExit: not on this machine"),
        ("class Other: pass", "AttributeError: module 'broken_samplers' has no attribute 'Broken'"),
        ("def Broken(velocity, x, t0, t1): ...", "a function, not a class"),
        ("class Broken: pass", "a Broken cannot be called"),
    ],
)
def test_a_broken_sampler_is_listed_with_its_reason(path: Path, source: str, reason: str) -> None:
    install(path, "broken", "broken_samplers", source, "broken = broken_samplers:Broken")
    rows = {row.name: row for row in discovery.describe()}
    assert reason in (rows["broken"].error or "")
    assert (rows["broken"].order, rows["broken"].options, rows["broken"].origin) == (None, (), "broken 2.5")
    assert {name for name, row in rows.items() if row.error is None} >= BUILT_IN
    sys.modules.pop("broken_samplers", None)


def test_a_broken_sampler_is_refused_with_its_package_and_reason(path: Path) -> None:
    source = "raise RuntimeError('needs a licence')"
    install(path, "broken", "broken_samplers", source, "broken = broken_samplers:Broken")
    expected = "'broken' of broken 2.5 (broken_samplers:Broken) cannot be loaded: RuntimeError: needs a licence"
    assert expected in refusal("broken")


def test_two_packages_with_one_name_are_refused_by_their_names(path: Path) -> None:
    install(path, "first-third", "first_samplers", SAMPLER, "euler = first_samplers:Lazy")
    install(path, "second-third", "second_samplers", SAMPLER, "lazy = second_samplers:Lazy")
    message = refusal("euler", steps=3)
    assert "sampler 'euler': two packages register a sampler of this name: " in message
    assert "first-third 2.5" in message
    assert "flowrl-cli " in message
    origins = [row.origin for row in discovery.describe() if row.name == "euler"]
    assert origins.count("first-third 2.5") == 1
    assert registry.make("heun", {"steps": 3}).nfe == 6  # type: ignore[attr-defined]  # others still work
    for module in ("first_samplers", "second_samplers"):
        del sys.modules[module]


# --- files


def test_a_class_in_a_file_is_a_sampler(tmp_path: Path) -> None:
    """Dataclasses with postponed annotations look up their module in sys.modules while they are made."""
    file = tmp_path / "mine.py"
    file.write_text(SAMPLER)
    with pytest.raises(registry.SamplerRefused, match="only when you name it: --import"):
        registry.make(f"{file}:Lazy")
    user_code.name_code(str(file))
    assert registry.make(f"{file}:Lazy", {"steps": 4}).steps == 4  # type: ignore[attr-defined]
    file.write_text(SAMPLER.replace("steps: int = 10", "steps: int = 20"))
    assert registry.make(f"{file}:Lazy").steps == 20  # type: ignore[attr-defined]  # the file as it is now


def test_a_file_that_gives_no_sampler_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    user_code.name_code(str(file), "package.module")
    assert f"there is no file {file}" in refusal(f"{file}:Lazy")
    file.write_text(SAMPLER)
    assert f"give a name from `flowrl samplers`, or {file}:Class" in refusal(str(file))
    assert "has no 'Lasy'. Did you mean 'Lazy'?" in refusal(f"{file}:Lasy")
    assert "is a function, not a class" in refusal(f"{file}:lazy")
    assert "a Silent cannot be called" in refusal(f"{file}:Silent")
    assert "names no sampler" in refusal("euler:10")
    assert "there is no module package." in refusal("package.module:Class")
    before = set(sys.modules)
    file.write_text("import math\nclass Broken\n")
    assert "cannot be run: SyntaxError: expected ':' (line 2)" in refusal(f"{file}:Broken")
    file.write_text("import no_such_module_at_all\n")
    assert "cannot be run: ModuleNotFoundError: No module named 'no_such_module_at_all'" in refusal(f"{file}:X")
    assert set(sys.modules) == before - {f"flowrl sampler {file}"}


# --- names and options


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("hein", "heun"), ("Euler", "euler"), ("rk45", "dopri5"), ("heun2", "heun"), ("midpiont", "midpoint")],
)
def test_a_nearly_right_name_is_suggested(name: str, nearest: str) -> None:
    message = refusal(name)
    assert f"there is no sampler '{name}'. Did you mean '{nearest}'?" in message
    assert "ab2, dopri5, euler, fitted, heun" in message


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("heun", {"stpes": 3}, "no option 'stpes' (its options: steps). Did you mean 'steps'?"),
        ("dopri5", {"steps": 3}, "no option 'steps' (its options: rtol, atol, max_nfe)."),
        ("dopri5", {"tol": 1e-3}, "Did you mean 'rtol'?"),
        ("heun", {"steps": 0}, "steps must be at least 1, not 0"),
        ("heun", {"steps": "8"}, "option 'steps': input should be a valid integer, not '8'"),
        ("heun", {"steps": True}, "option 'steps': input should be a valid integer, not True"),
        ("heun", {"steps": 2.5}, "option 'steps': input should be a valid integer, not 2.5"),
        ("dopri5", {"rtol": -1e-3}, "rtol must be positive and finite, from 1e-12 to 1000, not -0.001"),
        ("dopri5", {"rtol": float("nan")}, "rtol must be positive and finite, from 1e-12 to 1000, not nan"),
        ("dopri5", {"rtol": [1e-3]}, "option 'rtol': input should be a valid number, not [0.001]"),
    ],
)
def test_wrong_options_are_explained(name: str, options: dict[str, object], expected: str) -> None:
    message = refusal(name, **options)
    assert expected in message
    assert f"'{name}'" in message
    assert "\n" not in message


# --- settings


def test_settings_pass_on_every_option() -> None:
    assert SamplerSettings().name == "euler"
    assert SamplerSettings().options() == {}
    assert SamplerSettings(name="heun", steps=8).options() == {"steps": 8}
    settings = SamplerSettings(name="dopri5", rtol=1e-3, max_nfe=100)  # type: ignore[call-arg]
    assert settings.options() == {"rtol": 1e-3, "max_nfe": 100}
    assert SamplerSettings(**settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("hein", {"steps": 3}, "name"),
        ("nowhere.py:X", {}, "name"),
        ("heun", {"steps": 3, "stpes": 3}, "stpes"),
        ("heun", {"steps": 2.5}, "steps"),
        ("dopri5", {"atol": 1e-3, "rtol": -1e-3}, "rtol"),  # named in the sampler's own message
        ("demanding", {}, None),
    ],
)
def test_the_wrong_key_is_known(name: str, options: dict[str, object], key: str | None, tmp_path: Path) -> None:
    if name == "demanding":
        (tmp_path / "mine.py").write_text(
            "class Mine:\n    def __init__(self, grid): ...\n    def __call__(self, *a): ...\n"
        )
        name = f"{tmp_path}/mine.py:Mine"
    if ":" in name:
        user_code.name_code(name)
    with pytest.raises(registry.SamplerRefused) as refused:
        registry.make(name, options)
    assert refused.value.key == key


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": True},
        {"steps": 2.0},
        {"steps": "4"},
        {"name": 3},
        {"rtol": float("inf")},
        {"rtol": None},
        {"weights": {"a": 1}},
        {"weights": [[[1]]]},
        {"weights": [float("nan")]},
        {"weights": [0.0] * 129},
    ],
)
def test_settings_refuse_values_that_no_option_can_have(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        SamplerSettings(**wrong)  # type: ignore[arg-type]
    assert len(refused.value.errors()) == 1
    assert refused.value.errors()[0]["loc"] == tuple(wrong)
