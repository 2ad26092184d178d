"""Compiling the C files of policies in tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flowrl.deployment import backends, c_compiler, c_source
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program

needs_compiler = pytest.mark.skipif(c_compiler.compiler() is None, reason="there is no C compiler")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-Werror", "-pedantic")
QUICK = ("-O1", *STRICT, "-fPIC", "-shared")


def write(folder: Path, program: Program, name: str = "flowrl", rows: int = 64) -> None:
    """Write all files of a C export, with test vectors from the referee."""
    random = np.random.default_rng(3)
    obs = (program.shift + random.standard_normal((rows, program.observation_size)) / program.scale).astype(np.float32)
    noise = random.standard_normal((rows, program.action_size)).astype(np.float32)
    actions = program.evaluate(obs, noise)
    (folder / "policy.c").write_text(c_source.source(program, NoiseChoice(), None, name))
    (folder / "policy.h").write_text(c_source.header(program, NoiseChoice(), name))
    (folder / "test_policy.c").write_text(c_source.test_source(obs, noise, actions, 1e-5, name))
    (folder / "Makefile").write_text(c_source.template("Makefile"))


def library(
    folder: Path, program: Program, flags: Sequence[str] = QUICK, choice: NoiseChoice | None = None, **more: object
) -> backends.CBackend:
    """Compile `program` without the cache, and load it."""
    choice = choice or NoiseChoice()
    out = folder / "policy.so"
    source = c_source.source(program, choice, **more)  # type: ignore[arg-type]
    c_compiler.build(source, c_source.header(program, choice), out, flags)
    return backends.CBackend(out, "flowrl")


def run(words: Sequence[object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in `folder`; fails where it fails."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")
