"""The files of the project agree with one another: links, versions, and what CI runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import flowrl

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("samplers/*.md"))]


def broken_links(text: str, folder: Path) -> list[str]:
    """The targets of relative Markdown links in `text`, a page in `folder`, that do not exist."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [target for target in targets if "://" not in target and not (folder / target).exists()]


def test_relative_links_point_to_files() -> None:
    assert len(PAGES) > 10
    found = {str(page.relative_to(ROOT)): broken_links(page.read_text(), page.parent) for page in PAGES}
    assert {page: links for page, links in found.items() if links} == {}


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) [b](gone.md#part) ![c](docs/gone.png) [d](https://example.org/gone)"
    assert broken_links(text, ROOT) == ["gone.md", "docs/gone.png"]


def test_ci_runs_the_python_versions_that_the_classifiers_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    named = [line.removeprefix(prefix) for line in project["classifiers"] if line.startswith(prefix)]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == named


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == flowrl.__version__
    (paper,) = citation["references"]
    assert paper["url"] == "https://arxiv.org/abs/2507.21053"


def test_the_hooks_run_the_linters_of_the_makefile() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        tool = " ".join(hook["name"].split()[:2])
        assert f"$(BIN)/{tool}" in makefile
        assert hook["entry"].startswith(f".venv/bin/{tool}")
