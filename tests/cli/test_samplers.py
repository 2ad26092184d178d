"""`flowrl samplers` and `flowrl samplers check`, run as commands."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flowrl.cli import run
from flowrl.samplers import discovery

WRONG = """\
class Wrong:
    order = 2
    def __init__(self, steps: int = 10):
        self.steps = steps
    def __call__(self, velocity, x, t0, t1):
        h = (t1 - t0) / self.steps
        for k in range(self.steps):
            x = x + h * velocity(x, t0 + h * k)
        return x
"""


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samplers"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["name"] == ["name", "order", "NFE/step", "options", "origin"]
    assert rows["rk4"][1:4] == ["4", "4", "steps=10"]
    assert rows["ab2"][1:4] == ["2", "1", "steps=10"]
    assert rows["dopri5"][1:6] == ["5", "counted", "rtol=1e-05,", "atol=1e-06,", "max_nfe=1000"]
    assert err.startswith("next: flowrl samplers check")


def test_the_table_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samplers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["heun"]["order"], rows["heun"]["nfe_per_step"]) == (2, 2)
    assert rows["heun"]["options"] == [{"name": "steps", "type": "int", "default": "10"}]


def test_a_broken_sampler_is_listed_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("broken", "no_such_package:Sampler", discovery.GROUP)
    offers = {**discovery.offers(), "broken": [broken]}
    monkeypatch.setattr(discovery, "offers", lambda: offers)
    assert run(["samplers"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("broken")]
    assert line.endswith("ModuleNotFoundError: No module named 'no_such_package'")
    assert out.splitlines()[0].split() == ["name", "order", "NFE/step", "options", "origin", "error"]
    assert run(["samplers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["broken"]["error"] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert (rows["broken"]["order"], rows["broken"]["nfe_per_step"], rows["broken"]["options"]) == (None, None, [])
    assert rows["heun"]["error"] is None


def test_check_of_a_good_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samplers", "check", "midpoint", "--steps", "3"]) == 0
    out = capsys.readouterr().out
    assert "order 2.0" in out
    assert "6 counted, declared 6" in out
    assert "FAIL" not in out


def test_check_of_a_wrong_sampler_exits_with_7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    assert run(["samplers", "check", f"{file}:Wrong"]) == 7
    out, err = capsys.readouterr()
    failed = [line for line in out.splitlines() if "FAIL" in line]
    assert len(failed) == 2
    assert all("declared 2" in line for line in failed)
    assert "converges forward in time" in err
    assert run(["samplers", "check", f"{file}:Wrong", "--json"]) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert [finding["property"] for finding in document["findings"] if finding["passed"] is False] == [
        "converges forward in time",
        "converges backward in time",
    ]


ENDING = ["sys.exit()", "sys.exit(0)", "raise KeyboardInterrupt", "raise GeneratorExit", "raise RuntimeError('odd')"]


@pytest.mark.parametrize("ending", ENDING)
@pytest.mark.parametrize("place", ["file", "__init__", "__call__"])
def test_code_of_a_sampler_that_ends_the_program_is_a_failure(
    place: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 without a word would pass for a good sampler."""
    monkeypatch.chdir(tmp_path)
    body = {"__init__": "pass", "__call__": "return x"} | {place: ending}
    Path("wrong.py").write_text(
        f"import sys\n{ending if place == 'file' else ''}\nclass Wrong:\n"
        f"    def __init__(self):\n        {body['__init__']}\n"
        f"    def __call__(self, velocity, x, t0, t1):\n        {body['__call__']}\n"
    )
    code = run(["samplers", "check", "wrong.py:Wrong"])
    out, err = capsys.readouterr()
    what = {"s": "SystemExit", "K": "KeyboardInterrupt", "G": "GeneratorExit", "R": "RuntimeError: odd"}
    name = what[ending.removeprefix("raise ")[0]]
    assert code == (7 if place == "__call__" else 2)
    assert err.count("\n") == 1 and "wrong.py:Wrong" in err
    if place == "__call__":
        assert all("FAIL" in line and name in line for line in out.splitlines()[2:])
    else:
        assert name in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "hein"], "Did you mean 'heun'?"),
        (["check", "dopri5", "--steps", "3"], "'dopri5' has no option 'steps'"),
        (["check", "nowhere.py:X"], "there is no file nowhere.py"),
    ],
)
def test_wrong_arguments_exit_with_2(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samplers", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert "Traceback" not in err
