"""`flowrl compare --html`: one page with tables, figures and videos, as a browser shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.experiments.comparison import html
from flowrl.experiments.comparison.load import read
from tests.cli import chromium
from tests.experiments.test_comparison import SCORES, add_all
from tests.small_recipe import small


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "small.yaml").write_text(small(32))
    words = ["--algorithms", "fpo,ppo", "--seeds", "2", "--episodes", "2", "--out", str(folder / "out")]
    assert cli.run(["suite", str(folder / "small.yaml"), *words]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def page(suite: Path) -> Path:
    file = suite.parent / "report.html"
    assert cli.run(["compare", str(suite), "--html", str(file), "--json"]) == 0
    return file


def test_the_page_needs_nothing_beside_it_and_has_tables_figures_and_videos(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "<script" not in text
    assert text.count("data:image/png;base64,") == 2
    assert text.count("data:image/webp;base64,") == 2
    assert "<h2>Who is ahead on each task</h2>" in text and "<h2>Time to equal return</h2>" in text
    assert re.search(r"small, best run: (fpo|ppo) seed \d, mean return", text)


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium")
def test_a_browser_shows_every_picture(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("websockets")
    browser = chromium.Chromium(tmp_path / "profile", 800, 600, 1.0)
    try:
        browser.open(page.as_uri())
        script = (
            "new Promise(done => { const check = () => document.readyState === 'complete' ? done(JSON.stringify({"
            "images: [...document.images].map(i => i.naturalWidth), rows: document.querySelectorAll('td').length,"
            "heading: document.querySelector('h1').textContent})) : setTimeout(check, 50); check(); })"
        )
        result = browser.call("Runtime.evaluate", expression=script, awaitPromise=True)
        found = json.loads(result["result"]["value"])
    finally:
        browser.close()
    assert len(found["images"]) == 4 and min(found["images"]) > 100
    assert found["rows"] > 20 and found["heading"] == "fpo · ppo"


def test_the_best_and_the_median_run_of_all_are_chosen(tmp_path: Path) -> None:
    suites = read([add_all(tmp_path, {("a", "fpo"): [1.0, 5.0, 3.0], ("a", "ppo"): [2.0, 4.0]})])
    found = [(what, name, run.seed, score) for what, name, run, score in html.chosen(suites.on("a"), "random")]
    assert found == [("best", "fpo", 1, 5.0), ("median", "fpo", 2, 3.0)]


def test_what_cannot_be_played_is_reported_and_names_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_all(tmp_path / "out", {(f"{task}<b>", name): scores for (task, name), scores in SCORES.items()})
    assert cli.run(["compare", str(tmp_path / "out"), "--html", str(tmp_path / "page.html"), "--json"]) == 0
    assert "no video of" in capsys.readouterr().err
    text = (tmp_path / "page.html").read_text()
    assert "<b>" not in text and "&lt;b&gt;" in text


@pytest.mark.parametrize(("name", "code"), [("page.pdf", 2), ("file/page.html", 6)])
def test_a_page_that_cannot_be_written_is_refused_first(
    name: str, code: int, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.run(["compare", str(suite), "--html", str(tmp_path / name), "--out", str(tmp_path / "out")]) == code
    assert not (tmp_path / "out").exists()
