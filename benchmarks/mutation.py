"""Mutants: small wrong changes to the code, and whether a test notices each of them.

    python benchmarks/mutation.py                     # all mutants that have no result yet, on all cores
    python benchmarks/mutation.py --only learner      # those whose file's path contains this
    python benchmarks/mutation.py --report            # write docs/results/mutation.md from what is known

A mutant (`mutants.py`) is one replacement in one file. It is made in a copy of the source, and the tests named beside
it run on that copy until the first fails: then it is killed. Each runs in a fork of one process that has imported
torch. Results are kept in bench/mutation.json, so that an interrupted run goes on where it was; a mutant is tried again
when its file has changed, or when it survived and its tests have. The tests are run once without any mutant first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "mutation.json"
PAGE = ROOT / "docs" / "results" / "mutation.md"
SOURCES = ("src", "samplers")
TIME_LIMIT_S = 300
IMPORTED = ("numpy", "torch", "torchdiffeq", "gymnasium", "pydantic", "yaml", "pytest", "hypothesis")  # but no flowrl


@dataclass
class Trial:
    """A mutant whose tests run in a process of their own."""

    mutant: Mutant | None  # None: the code as it is
    folder: Path
    process: int
    started: float

    @property
    def log(self) -> Path:
        """What its tests print."""
        return self.folder / "log"


def key(mutant: Mutant) -> str:
    """Return a name that changes with the mutant and its file."""
    return digest(mutant.path, mutant.old, mutant.new, (ROOT / mutant.path).read_text())


def tests_of(mutant: Mutant) -> str:
    """Return a name that changes with the tests of the mutant."""
    paths = sorted({test.split("::")[0] for test in mutant.tests})
    return digest(*mutant.tests, *((ROOT / path).read_text() for path in paths if (ROOT / path).is_file()))


def digest(*texts: str) -> str:
    """Return 16 digits of the SHA-256 of `texts`."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16]


def is_known(mutant: Mutant, results: dict[str, dict[str, Any]]) -> bool:
    """Return whether the mutant was killed, or survived the tests as they are now."""
    known = results.get(key(mutant), {"killed": None})
    return known["killed"] is True or (known["killed"] is False and known["tests"] == tests_of(mutant))


def fault(mutant: Mutant) -> str:
    """Explain why the mutant cannot be made; empty where it can be."""
    count = occurrences(mutant)
    if count != 1:
        return f"{mutant.old!r} is there {count} times, not once"
    try:
        compile((ROOT / mutant.path).read_text().replace(mutant.old, mutant.new), mutant.path, "exec")
    except SyntaxError as error:
        return f"{mutant.old!r} replaced is no Python ({error.msg}, line {error.lineno})"
    return ""


def occurrences(mutant: Mutant) -> int:
    """Count how often the text that the mutant replaces is in its file."""
    path = ROOT / mutant.path
    return path.read_text().count(mutant.old) if path.is_file() else 0


def start(mutant: Mutant | None, tests: list[str]) -> Trial:
    """Run `tests` in a fork, on a copy of the source with `mutant` in it."""
    RESULTS.parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="mutant-", dir=RESULTS.parent))  # on the same disk: files are linked
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, copy_function=os.link)  # compiled files too: fast to import
    if mutant is not None:
        file = folder / mutant.path
        text = file.read_text()
        file.unlink()  # a link: the original stays
        file.write_text(text.replace(mutant.old, mutant.new))
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            compiled.unlink()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os._exit(_test(folder, tests))
    return Trial(mutant, folder, process, time.monotonic())


def _test(folder: Path, tests: list[str]) -> int:
    """Run pytest in this process, a fork, with the code in `folder`; returns pytest's exit code."""
    os.setsid()  # so that what the tests start is ended with them
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    paths = [str(folder / name) for name in SOURCES]
    sys.path[:0] = paths
    sys.dont_write_bytecode = True
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }
    os.chdir(ROOT)
    import pytest

    options = [
        "-q",
        "-x",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--basetemp={folder / 'temporary'}",
    ]
    code = pytest.main([*options, *tests])
    sys.stdout.flush()
    return int(code)


def verdict(trial: Trial, status: int | None) -> dict[str, Any]:
    """Return whether the mutant was killed and by which test; `status` None: the time limit ended it."""
    if status is None:
        return {"killed": True, "by": "time limit"}
    code = os.waitstatus_to_exitcode(status)
    lines = trial.log.read_text(errors="replace").splitlines()
    if code == 0:
        return {"killed": False, "by": ""}
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    if code in (4, 5):  # wrong test names, or none: not a verdict
        return {"killed": None, "by": "\n".join(lines[-5:])}
    return {"killed": True, "by": failed[0].split(" ", 1)[1] if failed else f"exit {code}"}


def wait_for_one(running: list[Trial]) -> tuple[Trial, int | None]:
    """Return the first of the `running` trials to end, and its status; None where the time limit ended it."""
    while True:
        for trial in running:
            process, status = os.waitpid(trial.process, os.WNOHANG)
            if process:
                return trial, status
            if trial.mutant is not None and time.monotonic() - trial.started > TIME_LIMIT_S:
                os.killpg(trial.process, signal.SIGKILL)
                os.waitpid(trial.process, 0)
                return trial, None
        time.sleep(0.05)


def check_tests(mutants: list[Mutant]) -> None:
    """Run all tests of `mutants` on the code as it is; exit where one fails, for it would kill any mutant."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    if not tests:
        return
    trial = start(None, tests)
    _, status = os.waitpid(trial.process, 0)
    outcome = verdict(trial, status)
    shutil.rmtree(trial.folder)
    if outcome["killed"] is not False:
        sys.exit(f"without any mutant a test fails: {outcome['by']}")
    print(f"{len(tests)} tests pass without any mutant, in {time.monotonic() - trial.started:.0f} s", flush=True)


def run(mutants: list[Mutant], results: dict[str, dict[str, Any]], jobs: int) -> None:
    """Run the tests of `mutants`, `jobs` at a time, and save each result as it comes."""
    waiting, running, number = list(mutants), list[Trial](), 0
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop(0)
            running.append(start(mutant, list(mutant.tests)))
        trial, status = wait_for_one(running)
        running.remove(trial)
        assert trial.mutant is not None
        outcome = results[key(trial.mutant)] = verdict(trial, status) | {"tests": tests_of(trial.mutant)}
        shutil.rmtree(trial.folder, ignore_errors=True)
        RESULTS.write_text(json.dumps(results, indent=1))
        number += 1
        word = {True: "killed", False: "SURVIVED", None: "NOT RUN"}[outcome["killed"]]
        detail = outcome["by"] if outcome["killed"] is None else f"{time.monotonic() - trial.started:.0f} s"
        print(f"{number}/{len(mutants)} {word} {trial.mutant.path}: {trial.mutant.breaks} ({detail})", flush=True)


def report(mutants: list[Mutant], results: dict[str, dict[str, Any]]) -> str:
    """Return the page: the share killed by room, and every survivor with the reason why it may survive."""
    outcomes = {mutant: results.get(key(mutant), {"killed": None})["killed"] for mutant in mutants}
    rooms: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        parts = Path(mutant.path).parts
        rooms.setdefault(parts[2] if parts[0] == "src" else parts[0], []).append(mutant)
    lines = [
        "# Mutants",
        "",
        "Small wrong changes to the code, one at a time, and whether the tests named beside each notice it.",
        "Written by `python benchmarks/mutation.py --report`; the mutants are in `benchmarks/mutants.py`.",
        "",
        "| room | mutants | killed |",
        "|---|---|---|",
    ]
    counts = [(room, len(those), sum(outcomes[m] is True for m in those)) for room, those in sorted(rooms.items())]
    counts.append(("together", len(mutants), sum(killed is True for killed in outcomes.values())))
    lines += [f"| {room} | {number} | {killed} |" for room, number, killed in counts]
    for title, wanted in (("Survivors", False), ("Without a result", None)):
        those = [mutant for mutant in mutants if outcomes[mutant] is wanted]
        if those:
            lines += ["", f"## {title}", "", "| file | what is changed | why it may survive |", "|---|---|---|"]
            lines += [f"| `{m.path}` | {m.breaks} | {m.excuse or 'not known'} |" for m in those]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the path of a mutant's file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", action="store_true", help="run nothing, and write the page")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without any mutant first")
    options = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if options.only in mutant.path]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lost = [mutant for mutant in mutants if fault(mutant)]
    for mutant in lost:
        print(f"{mutant.path}: {fault(mutant)}", file=sys.stderr)
    mutants = [mutant for mutant in mutants if mutant not in lost]
    if options.report:
        PAGE.write_text(report(mutants, results))
        print(PAGE)
    else:
        waiting = [mutant for mutant in mutants if not is_known(mutant, results)]
        for module in IMPORTED:
            __import__(module)
        if not options.unchecked:
            check_tests(waiting)
        run(waiting, results, options.jobs)
        print(report(mutants, results))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
