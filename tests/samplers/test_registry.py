"""From names to samplers: the entry points that are really there, strangers' packages, and files."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

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
    """Lay out in `folder` what pip would: a module, and the distribution's metadata with its entry points."""
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


def test_the_catalogue_says_what_the_classes_say() -> None:
    for row in discovery.describe():
        if row.name in BUILT_IN:
            sampler = registry.make(row.name)
            assert row.order == sampler.order  # type: ignore[attr-defined]
            counted = sampler.nfe_per_step is None  # type: ignore[attr-defined]
            assert row.nfe_per_step == ("counted" if counted else sampler.nfe_per_step)  # type: ignore[attr-defined]
            assert {option.name: eval(option.default) for option in row.options} == vars(sampler)  # noqa: S307
            assert row.origin.startswith("flowrl-cli ")


def test_listing_imports_neither_torch_nor_any_sampler() -> None:
    listing = """
import sys
from flowrl.cli import run
assert run(["samplers"]) == 0
heavy = {"torch", "torchdiffeq", "numpy", "flowrl_samplers.euler", "flowrl_samplers.dopri5"} & set(sys.modules)
assert not heavy, heavy
import flowrl.samplers.registry
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, timeout=60)


# --- strangers' packages


def test_a_strangers_sampler_is_listed_without_running_it_and_made(path: Path) -> None:
    install(path, "stranger", "strange_samplers", SAMPLER, "lazy = strange_samplers:Lazy")
    (row,) = [row for row in discovery.describe() if row.name == "lazy"]
    assert "strange_samplers" not in sys.modules
    assert (row.order, row.nfe_per_step, row.origin) == (7, 0, "stranger 2.5")
    assert row.options == (
        discovery.Option("steps", "int", "10"),
        discovery.Option("weight", "float", "0.5"),
    )
    assert registry.make("lazy", {"weight": 0.25}).weight == 0.25  # type: ignore[attr-defined]
    del sys.modules["strange_samplers"]


def test_a_plain_class_is_described_by_its_constructor(path: Path) -> None:
    source = """
raise RuntimeError("imported")
class Odd:
    order = 3
    def __init__(self, a, b: int = 2, *, c, d=True): ...
"""
    install(path, "odd", "odd_samplers", source, "odd = odd_samplers:Odd", "gone = odd_samplers:Gone")
    rows = {row.name: row for row in discovery.describe()}
    assert rows["odd"].order == 3
    assert rows["odd"].nfe_per_step == "?"
    assert [(o.name, o.type, o.default) for o in rows["odd"].options] == [  # type: ignore[union-attr]
        ("a", "?", None),
        ("b", "int", "2"),
        ("c", "?", None),
        ("d", "?", "True"),
    ]
    assert (rows["gone"].order, rows["gone"].nfe_per_step, rows["gone"].options) == ("?", "?", "?")
    assert "odd 2.5 (odd_samplers:Odd) cannot be loaded: RuntimeError: imported" in refusal("odd")


def test_base_classes_of_the_same_package_are_read_with_the_class(path: Path) -> None:
    """Fields of the base first, the nearer value wins; a base from elsewhere is not looked for."""
    offer = "derived = family:Derived"  # the package hands it on from family/inner/mine.py
    install(path, "family", "unused", "", offer)
    inner = path / "family" / "inner"
    inner.mkdir(parents=True)
    (path / "family" / "__init__.py").write_text(
        "from .inner.mine import Own as Derived\nraise RuntimeError\n"
    )
    (inner / "__init__.py").write_text("from .mine import Own\n")
    (inner / "mine.py").write_text("""
from strange_samplers import Lazy
from ._grid import Grid as Base
class Own(Base, Lazy):
    power: float = 2.0
    steps: int = 4
    order = 2
""")
    (inner / "_grid.py").write_text("""
from .mine import Own as Loop
class Root(Loop):
    rtol: float = 1e-3
class Grid(Root):
    steps: int = 10
    order = 1
    nfe_per_step = 3
    def __call__(self, velocity, x, t0, t1): ...
""")
    (path / "strange_samplers.py").write_text("class Lazy:\n    far: int = 1\n")
    (row,) = [row for row in discovery.describe() if row.name == "derived"]
    assert (row.order, row.nfe_per_step) == (2, 3)
    assert [(option.name, option.default) for option in row.options] == [  # type: ignore[union-attr]
        ("rtol", "0.001"),
        ("steps", "4"),
        ("power", "2.0"),
    ]
    assert discovery.defines_a_sampler("family.inner.mine")
    assert not discovery.defines_a_sampler("family.inner")
    assert not {"family", "family.inner", "strange_samplers"} & set(sys.modules)


def test_packages_around_a_sampler_are_not_imported_to_list_it(path: Path) -> None:
    install(path, "nested", "unused", "", "nested = heavy.inner.lazy:Lazy")
    (path / "heavy" / "inner").mkdir(parents=True)
    (path / "heavy" / "__init__.py").write_text("raise RuntimeError('imported')")
    (path / "heavy" / "inner" / "__init__.py").write_text("raise RuntimeError('imported')")
    (path / "heavy" / "inner" / "lazy.py").write_text(SAMPLER)
    (row,) = [row for row in discovery.describe() if row.name == "nested"]
    assert row.order == 7


def test_two_packages_with_one_name_are_refused_by_their_names(path: Path) -> None:
    install(path, "first-stranger", "first_samplers", SAMPLER, "euler = first_samplers:Lazy")
    install(path, "second-stranger", "second_samplers", SAMPLER, "lazy = second_samplers:Lazy")
    message = refusal("euler", steps=3)
    assert "'euler' is offered by " in message
    assert "first-stranger 2.5" in message
    assert "flowrl-cli " in message
    assert [row.origin for row in discovery.describe() if row.name == "euler"].count(
        "first-stranger 2.5"
    ) == 1
    assert registry.make("heun", {"steps": 3}).nfe == 6  # type: ignore[attr-defined]  # others are not touched


# --- files


def test_a_class_in_a_file_is_a_sampler(tmp_path: Path) -> None:
    """Dataclasses with postponed annotations look their module up in sys.modules while they are made."""
    file = tmp_path / "mine.py"
    file.write_text(SAMPLER)
    assert registry.make(f"{file}:Lazy", {"steps": 4}).steps == 4  # type: ignore[attr-defined]
    file.write_text(SAMPLER.replace("steps: int = 10", "steps: int = 20"))
    assert registry.make(f"{file}:Lazy").steps == 20  # type: ignore[attr-defined]  # the file as it is now


def test_a_file_that_gives_no_sampler_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    assert f"there is no file {file}" in refusal(f"{file}:Lazy")
    file.write_text(SAMPLER)
    assert f"give a name from `flowrl samplers`, or {file}:Class" in refusal(str(file))
    assert "has no 'Lasy'. Did you mean 'Lazy'?" in refusal(f"{file}:Lasy")
    assert "is a function, not a class" in refusal(f"{file}:lazy")
    assert "a Silent cannot be called" in refusal(f"{file}:Silent")
    assert "names no sampler" in refusal("package.module:Class")
    before = set(sys.modules)
    file.write_text("import math\nclass Broken\n")
    assert "cannot be run: SyntaxError: expected ':' (line 2)" in refusal(f"{file}:Broken")
    file.write_text("import no_such_module_at_all\n")
    assert "cannot be run: ModuleNotFoundError: No module named 'no_such_module_at_all'" in refusal(
        f"{file}:X"
    )
    assert set(sys.modules) == before - {f"flowrl sampler {file}"}


# --- names and options


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("hein", "heun"), ("Euler", "euler"), ("rk45", "dopri5"), ("heun2", "heun"), ("midpiont", "midpoint")],
)
def test_a_name_nearly_right_is_guessed(name: str, nearest: str) -> None:
    message = refusal(name)
    assert f"there is no sampler '{name}'. Did you mean '{nearest}'?" in message
    assert "ab2, dopri5, euler, heun" in message


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("heun", {"stpes": 3}, "no option 'stpes' (its options: steps). Did you mean 'steps'?"),
        ("dopri5", {"steps": 3}, "no option 'steps' (its options: rtol, atol, max_nfe)."),
        ("dopri5", {"tol": 1e-3}, "Did you mean 'rtol'?"),
        ("heun", {"steps": 0}, "steps must be at least 1, not 0"),
        ("heun", {"steps": "8"}, "option 'steps': input should be a valid integer, not '8'"),
        ("heun", {"steps": True}, "option 'steps': input should be a valid integer, not True"),
        ("heun", {"steps": 2.5}, "option 'steps': input should be a valid integer, not 2.5"),
        ("dopri5", {"rtol": -1e-3}, "rtol must be positive and finite, not -0.001"),
        ("dopri5", {"rtol": float("nan")}, "rtol must be positive and finite, not nan"),
        ("dopri5", {"rtol": [1e-3]}, "option 'rtol': input should be a valid number, not [0.001]"),
    ],
)
def test_wrong_options_are_explained(name: str, options: dict[str, object], says: str) -> None:
    message = refusal(name, **options)
    assert says in message
    assert f"'{name}'" in message
    assert "\n" not in message


# --- settings


def test_settings_pass_every_option_on() -> None:
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
        ("dopri5", {"atol": 1e-3, "rtol": -1e-3}, "rtol"),  # from the words of the sampler itself
        ("demanding", {}, None),
    ],
)
def test_the_key_at_fault_is_known(
    name: str, options: dict[str, object], key: str | None, tmp_path: Path
) -> None:
    if name == "demanding":
        (tmp_path / "mine.py").write_text("class Mine:\n    def __init__(self, grid): ...\n")
        name = f"{tmp_path}/mine.py:Mine"
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
        {"weights": [1, 2]},
    ],
)
def test_settings_refuse_what_no_option_can_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        SamplerSettings(**wrong)  # type: ignore[arg-type]
    assert len(refused.value.errors()) == 1
    assert refused.value.errors()[0]["loc"] == tuple(wrong)
