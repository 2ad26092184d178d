"""The documentation site: its pages, their links, what is generated, and the README that is its first page."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def script(name: str) -> ModuleType:
    """Import a file of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_of(nav: list[Any]) -> Iterator[str]:
    """Yield the pages of a navigation, in order."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, list):
                yield from pages_of(value)
            else:
                yield value


def test_no_link_of_the_site_is_dead(tmp_path: Path) -> None:
    assert script("site").gather(site=tmp_path) == []
    assert (tmp_path / "index.md").read_text().startswith("# flowrl\n")
    assert "](figures/humanoid.webp)" in (tmp_path / "index.md").read_text()


def test_links_are_moved_with_the_pages() -> None:
    site = script("site")
    files = {Path("README.md"): Path("index.md"), Path("docs/guide/a.md"): Path("guide/a.md")}
    text, dead = site.moved(
        "[a](docs/guide/a.md#part) [b](https://example.org/x.md) [c](gone.md)", Path("README.md"), files
    )
    assert text == "[a](guide/a.md#part) [b](https://example.org/x.md) [c](gone.md)"
    assert dead == ["gone.md"]
    assert site.moved("[up](../../README.md)", Path("docs/guide/a.md"), files) == ("[up](../index.md)", [])


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = [str(place) for place in script("site").places().values() if place.suffix == ".md"]
    assert sorted(listed) == sorted(pages)


def test_the_page_of_commands_is_up_to_date() -> None:
    reference = script("cli_reference")
    assert reference.PAGE.read_text() == reference.page(), "type: python scripts/cli_reference.py"


def test_dead_links_of_a_built_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="guide/">a</a> <a href="guide/#part">b</a> <a href="#top">c</a>'
        '<img src="gone.png">'
        '<a href="guide/#nothing">d</a> <a href="https://example.org/gone">e</a>'
    )
    (tmp_path / "guide/index.html").write_text('<h2 id="part">x</h2><a href="../index.html#top">up</a>')
    assert script("links").dead_links(tmp_path) == ["index.html: gone.png", "index.html: guide/#nothing"]


@pytest.mark.parametrize("command", ["make demo", "make test", "make docs"])
def test_the_readme_names_the_commands_of_the_makefile(command: str) -> None:
    assert f"{command}" in (ROOT / "README.md").read_text()
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_ci_runs_commands_that_the_readme_names() -> None:
    commands = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert commands == ["test", "docs"]


def test_the_readme_is_short_and_warns_of_the_other_package() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 110
    assert "**`pip install flowrl` installs another project's package.**" in text
