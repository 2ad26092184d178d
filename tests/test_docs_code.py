"""Every code block of the README and of the guide works as printed, with less training.

The blocks of a page run in order, in an empty folder, as a reader would type them one after another.
Python and YAML with a file name are written to that file; commands run as they are, but for `SHORTER` and `FEWER`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from flowrl.cli import run
from flowrl.config import recipe, schema
from flowrl.config.recipe import Recipe
from flowrl.envs import checking
from flowrl.experiments.suite import engines

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/guide/*.md")),
    *sorted(ROOT.glob("docs/concepts/*.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("environments", "mujoco_tasks", "python", "sweeps", "tracking")),
]
SLOW = {
    "README",
    "clusters",
    "recipes",
    "fewer_evaluations",
    "samplers",
    "suites",
    "sweeps",
    "watching",
    "robustness",
    "first_run",
    "mujoco_tasks",
    "processes",
}

NOT_RUN = {  # the beginning of a line -> why the test does not run it
    "make ": "installs into the clone; the Makefile's own commands are run by CI",
    "source ": "activates the environment that `make install` makes",
    "pip install": "needs a network",
    "flowrl --install-completion": "changes the start-up file of the user's shell",
    "tensorboard ": "is a server that does not end",
    "cd /shared": "goes to a drive of the reader's",
    "squeue ": "asks a SLURM cluster",
    "scancel ": "asks a SLURM cluster",
    "ray ": "begins and ends a Ray cluster; tests/experiments/test_clusters.py makes one",
    "torchrun ": "waits for a second machine; tests/experiments/test_shards.py starts the same processes",
    "{ [ $? = 143 ]": "asks a SLURM cluster",
    "srun ": "needs a cluster; tests/experiments/test_shards.py reads its variables",
    "python benchmarks/": "takes minutes",
    "flowrl view": "is a server that does not end; tests/cli/test_view.py opens its page",
}
SHORTER = {  # command -> options that follow those of the page, and win over them
    "train": ["--set", "total_steps=4000", "--set", "learner.epochs=1", "--set", "checkpoint.best_over=1"],
    "train --resume": ["--set", "total_steps=8000"],
    "eval": ["--episodes", "2"],
    "play": ["--max-steps", "4", "--size", "64x64"],
    "bench-latency": ["--steps", "1", "--batch", "1", "--sampler", "euler"],
    "fit-sampler": ["--observations", "normal"],
    "distil": ["--observations", "normal", "--iterations", "5"],
    "ratio": ["--actions", "16", "--probes", "2", "--weightings", "u"],
    "suite": ["--seeds", "1", "--steps", "3000", "--episodes", "2"],
    "sweep": ["--trials", "1", "--steps", "3000", "--episodes", "2"],
}
FEWER = {
    "--sampler": 2,
    "--sweep-steps": 2,
    "--algorithms": 1,
    "--grid": 1,
}  # option -> values of its list that are left
ALLOWED = {"doctor": {0, 8}, "envs": {0}}  # exit codes; {0} for other commands
LANGUAGES = {"bash", "python", "yaml", "text", "toml", "c"}  # text is output, toml of a package of the reader's


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    language: str
    text: str
    name: str  # the file that it is saved as, or ''
    line: int


FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^\n|\A)((?:^ {4}\S.*\n)+)", re.MULTILINE)
COMMANDS = r"(?:\.venv/bin/)?flowrl |pip "
NAMES = (re.compile(r"[Ss]ave (?:this|it) as `([\w./]+)`"), re.compile(r"^`([\w./]+\.(?:py|yaml))` "))


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page in order: fenced ones, and indented ones that are commands."""
    found = []
    for match in FENCE.finditer(page):
        language, words, text = match.groups()
        title = re.search(r'title="([^"]+)"', words)
        if not language:
            language = "bash" if re.match(COMMANDS, text) else "text"
        name = title[1] if title else _name_before(page[: match.start()]) or _name_inside(text)
        found.append(Block(language, text, name if language in ("python", "yaml") else "", _line(page, match)))
    for match in INDENTED.finditer(FENCE.sub(lambda fence: re.sub(r"\S", "x", fence[0]), page)):
        lines = "".join(line[4:] + "\n" for line in match[1].splitlines())
        if re.match(COMMANDS, lines):
            found.append(Block("bash", lines, "", _line(page, match)))
    return sorted(found, key=lambda block: block.line)


def _line(page: str, match: re.Match[str]) -> int:
    return page.count("\n", 0, match.start()) + 1


def _name_before(text: str) -> str:
    """Return the file name that the paragraph before a block gives it, or ''."""
    paragraph = text.rstrip().rpartition("\n\n")[2]
    return next((found[1] for pattern in NAMES if (found := pattern.search(paragraph))), "")


def _name_inside(text: str) -> str:
    """Return the file name in a first line like '# my_callbacks.py', or ''."""
    found = re.match(r"# ([\w./]+\.(?:py|yaml))\n", text)
    return found[1] if found else ""


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a bash block, without comments; continued lines are joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shortened(words: list[str]) -> list[str]:
    """Return the arguments of a command of flowrl, changed so that it takes a second or two."""
    arguments = [_first(word, words[i]) for i, word in enumerate(words[1:])]
    command = arguments[0]
    if command == "suite":
        options = next((i for i, word in enumerate(arguments) if word.startswith("--")), len(arguments))
        arguments = [*arguments[:2], *arguments[options:]]
    if "--on" in arguments:  # the engine is checked, and the trials are made here
        place = arguments.index("--on")
        engine, _, options = arguments[place + 1].partition(":")
        assert engine == "ray" or engines.slurm_options(options).cluster == "slurm"
        arguments = [*arguments[:place], *arguments[place + 2 :]]
    if command == "samplers" and "check" in arguments:
        return arguments
    if "--dry-run" in arguments:
        return arguments
    if "--sweep" in arguments:  # of eval: its choices, each compiled and timed
        return [*arguments, *SHORTER["eval"], "--sampler", "euler:1", "--noise-scale", "1"]
    return arguments + SHORTER.get("train --resume" if "--resume" in arguments else command, [])


def _first(word: str, before: str) -> str:
    """Return a list of values with fewer of them, any other word as it is."""
    return ",".join(word.split(",")[: FEWER[before]]) if before in FEWER else word


def execute(words: list[str], where: str) -> None:
    """Run a command of a page in the current folder."""
    if words[0] == "cp":
        shutil.copy(words[1], words[2])
        return
    words[0] = words[0].removeprefix(".venv/bin/")
    assert words[0] == "flowrl", f"{where}: {words[0]} is neither run nor listed in NOT_RUN"
    arguments = shortened(words)
    code = run(arguments)
    assert code in ALLOWED.get(arguments[0], {0}), f"{where}: `flowrl {shlex.join(arguments)}` exited with {code}"


def check_settings(text: str, where: str) -> None:
    """Check that a block of YAML without a name can be a part of a recipe."""
    part = yaml.safe_load(text)
    assert isinstance(part, dict), f"{where}: not a mapping"
    written = recipe.read("pendulum").values
    for key, value in part.items():
        both = isinstance(value, dict) and isinstance(written.get(key), dict)
        written[key] = written[key] | value if both else value
    schema.load(Recipe(where, written))


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the blocks of a page in the current folder; return how many there are."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look up their annotations
    found = blocks(page.read_text())
    for block in reversed(found):  # a page may show a command before the file that it reads
        if block.name:
            Path(block.name).write_text(block.text)
    for block in found:
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: a block of language {block.language!r}"
        if block.name:
            Path(block.name).write_text(block.text)
        if block.language == "python":
            exec(compile(block.text, where, "exec"), vars(module))  # noqa: S102
        elif block.language == "yaml" and not block.name:
            check_settings(block.text, where)
        elif block.language == "c" and (compiler := shutil.which("cc")):
            Path("block.c").write_text(block.text)
            words = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-Iexport", "block.c"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{where}: {done.stderr}"
        elif block.language == "bash":
            for words in commands(block.text):
                if not any(" ".join([*words, ""]).startswith(line) for line in NOT_RUN):
                    execute(words, where)
    return len(found)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in SLOW), id=page.stem) for page in PAGES]
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(checking, "SECONDS", 0.2)  # of random actions in `flowrl envs --check`
    run_page(page, monkeypatch)


def test_blocks_are_found_with_their_names() -> None:
    page = (
        "Save this as `a.py`:\n\n```python\nx = 1\n```\n\n`space.yaml` maps keys:\n\n```yaml\na: 1\n```\n\n"
        '```python title="b.py"\n# c.py\n```\n\n    flowrl train a.yaml\n    flowrl eval b\n\n```python\n# d.py\n```\n'
    )
    assert [(block.language, block.name) for block in blocks(page)] == [
        ("python", "a.py"),
        ("yaml", "space.yaml"),
        ("python", "b.py"),
        ("bash", ""),
        ("python", "d.py"),
    ]
    assert blocks(page)[3].text == "flowrl train a.yaml\nflowrl eval b\n"


def test_a_wrong_block_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="neither run nor listed"):
        execute(["unknown-tool", "x"], "page:1")
    with pytest.raises(AssertionError, match="exited with 2"):
        execute(["flowrl", "train", "pendulum", "--set", "learner.clpi=1", "--dry-run"], "page:1")
    with pytest.raises(Exception, match="clpi"):
        check_settings("learner: {clpi: 1}", "page:1")


def test_commands_are_shortened_but_keep_their_meaning() -> None:
    (words,) = commands("flowrl eval RUN --sampler euler:1,heun:5,dopri5 \\\n  --episodes 500   # a comment\n")
    assert shortened(words) == ["eval", "RUN", "--sampler", "euler:1,heun:5", "--episodes", "500", "--episodes", "2"]
    assert shortened(["flowrl", "train", "--resume", "R", "--set", "total_steps=40_000"])[-1] == "total_steps=8000"
    suite = shortened(["flowrl", "suite", "a", "b", "--algorithms", "fpo,ppo", "--seeds", "20"])
    assert suite[:6] == ["suite", "a", "--algorithms", "fpo", "--seeds", "20"]
    assert shortened(["flowrl", "train", "a.yaml", "--dry-run"]) == ["train", "a.yaml", "--dry-run"]
