"""One thread per test process: two on two shared cores wait for each other. One server of forks for all suites."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session", autouse=True)
def one_fork_server() -> Iterator[None]:
    """Suites and sweeps of all tests fork their trials from one server, which imports torch once.

    pytest keeps the name of the running test in a variable, and other variables are another server.
    """
    from flowrl.experiments.suite import processes

    start = processes.start

    def without_the_test(arguments: Sequence[str], variables: Mapping[str, str], **files: Any) -> Any:
        kept = {name: value for name, value in variables.items() if name != "PYTEST_CURRENT_TEST"}
        return start(arguments, kept, **files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "start", without_the_test)
        yield
