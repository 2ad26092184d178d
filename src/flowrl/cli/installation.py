"""The checks of `flowrl doctor`: dependencies, processor, simulation, rendering, samplers, recipes, run folder."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flowrl.contracts.installing import DISTRIBUTION, pip, reinstall

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAMESAKE = "flowrl"  # a JAX library on the package index, with the same import name
LEAST_FREE_BYTES = 2**30

BALL = "<mujoco><worldbody><body pos='0 0 1'><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
RENDER = f"""
import mujoco
model = mujoco.MjModel.from_xml_string("{BALL}")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    renderer.render()
"""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check."""

    name: str  # of what was checked
    state: State  # warning: something does not work or is slow; problem: flowrl cannot run
    found: str
    remedy: str = ""  # one line: what to type


def _result(name: str, passed: bool, found: str, remedy: str, failed: State = "warning") -> CheckResult:
    return CheckResult(name, "ok", found) if passed else CheckResult(name, failed, found, remedy)


def examine() -> Iterator[CheckResult]:
    """Run every check, one after the other; a check that raises is reported as a problem."""
    packages = (python, namesake, requirements, extras)
    machine = (processor, pytorch, simulation, rendering)
    for check in (*packages, *machine, samplers, recipes, folder):
        try:
            yield from check()
        except Exception as error:
            yield CheckResult(check.__name__, "problem", f"{type(error).__name__}: {error}", reinstall())


def python() -> Iterator[CheckResult]:
    """Report the interpreter."""
    yield CheckResult("python", "ok", f"{platform.python_version()} at {sys.executable}")


def namesake() -> Iterator[CheckResult]:
    """Find an unrelated distribution whose package `flowrl` overwrites ours."""
    if (version := _version(NAMESAKE)) is not None:
        found = f"the unrelated distribution {NAMESAKE} {version} is installed and has the same import name"
        remedy = f"{pip(f'uninstall {NAMESAKE}')} && {reinstall(force=True)}"
        yield CheckResult("namesake", "warning", found, remedy)


def requirements() -> Iterator[CheckResult]:
    """Check the distributions that flowrl requires, by its metadata."""
    if (version := _version(DISTRIBUTION)) is None:
        found = "not installed as a distribution, so samplers are not registered"
        yield CheckResult(DISTRIBUTION, "problem", found, reinstall())
        return
    yield CheckResult(DISTRIBUTION, "ok", f"{version} in {Path(__file__).parents[1]}")
    for requirement in _requirements():
        found, fulfilled = _version(requirement.name) or "not installed", _fulfilled(requirement)
        needed = "" if fulfilled else f", needs {requirement.specifier or 'any version'}"
        yield _result(requirement.name, fulfilled, found + needed, reinstall(), "problem")


def extras() -> Iterator[CheckResult]:
    """Check which optional groups of distributions are complete."""
    if _version(DISTRIBUTION) is None:
        return
    for extra in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        missing = [member.name for member in _requirements(extra) if not _fulfilled(member)]
        found = f"not installed: {', '.join(missing)}" if missing else "installed"
        yield _result(f"[{extra}]", not missing, found, reinstall(extra))


def processor() -> Iterator[CheckResult]:
    """Report the cores, and whether other processes use them."""
    from flowrl.evaluation.machine import cores, load, machine

    here, waiting = machine(), load()
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    found = f"{here.processor}, {here.cores} cores, PyTorch uses {threads}"
    if waiting is not None:
        found += f", load {waiting:.1f}"
    idle = waiting is None or waiting <= len(cores())
    yield _result("processor", idle, found, "do not trust timings now; wait until the machine is idle")


def pytorch() -> Iterator[CheckResult]:
    """Multiply two matrices, on the processor and on a GPU if PyTorch finds one."""
    import torch

    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        name = torch.cuda.get_device_name() if device == "cuda" else "the processor"
        matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
        right = (matrix @ matrix).tolist() == [[7.0, 10.0], [15.0, 22.0]]
        found = f"computes on {name}" if right else f"a product of matrices on {name} is wrong"
        remedy = pip("install --force-reinstall torch")
        yield _result(f"torch on {device}", right, found, remedy, "problem")
    if shutil.which("nvidia-smi") and "cuda" not in devices:
        yield CheckResult(
            "torch on cuda",
            "warning",
            f"there is an NVIDIA driver, but torch {torch.__version__} does not use it",
            "install the CUDA build that https://pytorch.org/get-started names, if you want to train on the GPU",
        )


def simulation() -> Iterator[CheckResult]:
    """Simulate a falling ball: after t seconds its speed is g t."""
    from flowrl.contracts.errors import MissingDependency
    from flowrl.envs import opengl

    try:
        opengl.check()
    except MissingDependency as reason:
        yield CheckResult("simulation", "problem", str(reason).removesuffix("."), "unset MUJOCO_GL")
        return
    import mujoco

    model = mujoco.MjModel.from_xml_string(BALL)
    data = mujoco.MjData(model)
    for _ in range(10):
        mujoco.mj_step(model, data)
    expected = model.opt.gravity[2] * data.time
    right = bool(abs(data.qvel[2] - expected) < 1e-9)
    wrong = f"a falling ball has speed {data.qvel[2]} instead of {expected}"
    found = f"mujoco {mujoco.__version__} steps" if right else wrong
    yield _result("simulation", right, found, pip("install --force-reinstall mujoco"), "problem")


def rendering() -> Iterator[CheckResult]:
    """Render without a display; each backend in another process, because MuJoCo chooses one per process."""
    linux = sys.platform == "linux"
    working = [backend for backend in (("egl", "osmesa") if linux else ("",)) if _renders(backend)]
    chosen = os.environ.get("MUJOCO_GL")
    if not working:
        found = "does not work without a display: videos and images of simulations will fail"
        packages = "apt-get install libegl1, or libosmesa6, on Debian and Ubuntu"
        yield CheckResult("rendering", "warning", found, packages if linux else "run in a desktop session")
    elif not linux:
        yield CheckResult("rendering", "ok", "works")
    else:
        found = f"works with {' and '.join(working)}; MUJOCO_GL is {chosen or 'not set'}"
        usable = chosen is None or chosen in working
        yield _result("rendering", usable, found, f"export MUJOCO_GL={working[0]}")


def samplers() -> Iterator[CheckResult]:
    """Construct every registered sampler, unless it needs numbers that are fitted to a policy, and find sampler files
    of flowrl that are not registered."""
    from flowrl.contracts.errors import UsageError
    from flowrl.samplers import registry

    names = registry.names()
    for name in names:
        try:
            if not registry.is_specific(name):
                registry.make(name)
        except UsageError as error:
            yield CheckResult(f"sampler {name}", "warning", str(error), "uninstall or repair its package")
    if unregistered := _unregistered_files():
        found = f"no entry point for {', '.join(unregistered)}: added since the installation"
        yield CheckResult("samplers", "warning", found, reinstall())
    else:
        found = ", ".join(names) or "none is registered"
        yield _result("samplers", bool(names), found, reinstall(), "problem")


def recipes() -> Iterator[CheckResult]:
    """Count the recipes that are shipped with the package."""
    from flowrl.config.recipe import shipped_names

    count = len(shipped_names())
    found = f"{count} in the package" if count else "none in the package"
    yield _result("recipes", count > 0, found, reinstall(force=True), "problem")


def folder() -> Iterator[CheckResult]:
    """Write to the folder in which `flowrl train` makes run folders."""
    here = Path("runs") if Path("runs").is_dir() else Path.cwd()
    remedy = "change to a folder that you may write to, or give --out"
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"flowrl")
    except OSError as error:
        yield CheckResult("run folder", "warning", f"{here} cannot be written: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(here).free
    found = f"{here.absolute()} is writable, {free / 2**30:.1f} GiB free"
    yield _result("run folder", free >= LEAST_FREE_BYTES, found, "free some space")


# --- what is installed ----------------------------------------------------------------------------


def _requirements(extra: str = "") -> Iterator[Requirement]:
    """Yield the requirements that apply to this interpreter: flowrl's, or those that only `extra` adds."""
    from packaging.requirements import Requirement  # here, so that `requirements` reports it when it is missing

    for requirement in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        if requirement.name == DISTRIBUTION:  # a group that includes another group
            continue
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always != bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
            yield requirement


def _fulfilled(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(distribution: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def _renders(backend: str) -> bool:
    environment = os.environ | ({"MUJOCO_GL": backend} if backend else {})
    command = [sys.executable, "-c", RENDER]
    with suppress(subprocess.SubprocessError):
        subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)  # noqa: S603
        return True
    return False


def _unregistered_files() -> list[str]:
    """Return the files beside our registered samplers that define a sampler without an entry point.

    Entry points are written at installation: a file that was added to a clone later is unknown until the next one.
    """
    from flowrl.samplers.discovery import defines_a_sampler, offers

    ours = [offer for offer in chain(*offers().values()) if offer.dist and offer.dist.name == DISTRIBUTION]
    registered = {offer.module for offer in ours}
    unregistered = []
    for package in {module.partition(".")[0] for module in registered}:
        for _, name, _ in pkgutil.iter_modules(importlib.import_module(package).__path__):
            module = f"{package}.{name}"
            if not name.startswith("_") and module not in registered and defines_a_sampler(module):
                unregistered.append(f"{name}.py")
    return unregistered
