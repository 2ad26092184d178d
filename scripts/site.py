"""Gather the pages of the documentation site in build/docs, where zensical builds them (see mkdocs.yml).

The site holds docs/ and the pages that are elsewhere in the repository, such as README.md as its first page. Relative
links to files that are part of the site are changed to their places there; a link to any other file is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SITE = ROOT / "build" / "docs"
ELSEWHERE = {  # file of the repository -> its place on the site
    "README.md": "index.md",
    "samplers/README.md": "guide/own_sampler.md",
    "CONTRIBUTING.md": "development/contributing.md",
    "SECURITY.md": "development/security.md",
    "CHANGELOG.md": "development/changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")


def places(root: Path = ROOT) -> dict[Path, Path]:
    """Return every file of the site: its path in the repository, relative to `root`, and its place on the site."""
    files = {Path(source): Path(place) for source, place in ELSEWHERE.items()}
    files |= {path.relative_to(root): path.relative_to(root / "docs") for path in _files(root / "docs")}
    return files | {path.relative_to(root): path.relative_to(root) for path in _files(root / "examples")}


def _files(folder: Path) -> list[Path]:
    hidden = ("__pycache__", "runs", "bench")
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not {*hidden} & {*path.parts}]


def moved(text: str, source: Path, files: dict[Path, Path]) -> tuple[str, list[str]]:
    """Return the page `source` with its links as they are on the site, and the links that lead nowhere there."""
    dead = []

    def replace(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        path = Path(os.path.normpath(source.parent / target))
        if path not in files:
            dead.append(target)
            return match.group()
        return f"{before}{os.path.relpath(files[path], files[source].parent)}{after}"

    return LINK.sub(replace, text), dead


def gather(root: Path = ROOT, site: Path = SITE) -> list[str]:
    """Write all files of the site into the folder `site`; return its dead links, each with the page it is on."""
    shutil.rmtree(site, ignore_errors=True)
    files, dead = places(root), []
    for source, place in files.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text, missing = moved((root / source).read_text(), source, files)
            (site / place).write_text(text)
            dead += [f"{source}: {target} is not a file of the site" for target in missing]
        else:
            shutil.copyfile(root / source, site / place)
    return dead


if __name__ == "__main__":
    if found := gather():
        sys.exit("\n".join(found))
