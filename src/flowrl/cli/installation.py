"""Is everything here that flowrl needs, and what to type if not: the checks of `flowrl doctor`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DISTRIBUTION = "flowrl-cli"
NAMESAKE = "flowrl"  # on the package index: a JAX library with the same import name
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
    """What a check found."""

    name: str  # of what was looked at
    state: State  # warning: something is less than it could be; problem: flowrl cannot work
    found: str
    remedy: str = ""  # one line: what to type


def examine() -> Iterator[CheckResult]:
    """Every check, one after the other; one that raises is a problem of its own, and the others go on."""
    for look in (
        python,
        namesake,
        requirements,
        extras,
        processor,
        pytorch,
        simulation,
        rendering,
        samplers,
        recipes,
        folder,
    ):
        try:
            yield from look()
        except Exception as error:
            yield CheckResult(look.__name__, "problem", f"{type(error).__name__}: {error}", _reinstall())


def python() -> Iterator[CheckResult]:
    """The interpreter."""
    yield CheckResult("python", "ok", f"{platform.python_version()} at {sys.executable}")


def namesake() -> Iterator[CheckResult]:
    """Another distribution that brings a package `flowrl`, and overwrites ours."""
    if (version := _version(NAMESAKE)) is not None:
        yield CheckResult(
            "namesake",
            "warning",
            f"the unrelated distribution {NAMESAKE} {version} is installed and has the same import name",
            f"{_pip(f'uninstall {NAMESAKE}')} && {_reinstall(force=True)}",
        )


def requirements() -> Iterator[CheckResult]:
    """The distributions that flowrl needs, by its own metadata."""
    if (version := _version(DISTRIBUTION)) is None:
        yield CheckResult(
            DISTRIBUTION,
            "problem",
            "not installed as a distribution, so samplers are not registered",
            _reinstall(),
        )
        return
    yield CheckResult(DISTRIBUTION, "ok", f"{version} in {Path(__file__).parents[1]}")
    for requirement in _requirements():
        if requirement.extra is None:
            yield _checked(requirement)


def extras() -> Iterator[CheckResult]:
    """Optional groups: which are complete."""
    groups: dict[str, list[Requirement]] = {}
    for requirement in _requirements():
        if requirement.extra is not None and requirement.name != DISTRIBUTION:
            groups.setdefault(requirement.extra, []).append(requirement)
    for extra, members in groups.items():
        missing = [member.name for member in members if not _fulfilled(member)]
        if missing:
            yield CheckResult(
                f"[{extra}]", "warning", f"not installed: {', '.join(missing)}", _reinstall(extra)
            )
        else:
            yield CheckResult(f"[{extra}]", "ok", "installed")


def processor() -> Iterator[CheckResult]:
    """Cores, and whether somebody else uses them."""
    from flowrl.evaluation.machine import cores, load, machine

    here, waiting = machine(), load()
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    found = f"{here.processor}, {here.cores} cores, PyTorch uses {threads}"
    if waiting is None:
        yield CheckResult("processor", "ok", found)
    elif waiting > len(cores()):
        busy = "timings taken now are not good figures; wait until the machine is quiet"
        yield CheckResult("processor", "warning", f"{found}, load {waiting:.1f}", busy)
    else:
        yield CheckResult("processor", "ok", f"{found}, load {waiting:.1f}")


def pytorch() -> Iterator[CheckResult]:
    """A product of matrices, on the processor and on a GPU if PyTorch sees one."""
    import torch

    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        name = torch.cuda.get_device_name() if device == "cuda" else "the processor"
        matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
        if (matrix @ matrix).tolist() == [[7.0, 10.0], [15.0, 22.0]]:
            yield CheckResult(f"torch on {device}", "ok", f"computes on {name}")
        else:
            wrong = f"a product of matrices on {name} is wrong"
            yield CheckResult(f"torch on {device}", "problem", wrong, _pip("install --force-reinstall torch"))
    if shutil.which("nvidia-smi") and "cuda" not in devices:
        yield CheckResult(
            "torch on cuda",
            "warning",
            f"there is an NVIDIA driver, but torch {torch.__version__} does not use it",
            "install the CUDA build that https://pytorch.org/get-started names, if you want to train on the GPU",
        )


def simulation() -> Iterator[CheckResult]:
    """A ball falls: after t seconds its speed is g t."""
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
    if abs(data.qvel[2] - expected) < 1e-9:
        yield CheckResult("simulation", "ok", f"mujoco {mujoco.__version__} steps")
    else:
        wrong = f"a falling ball has speed {data.qvel[2]} instead of {expected}"
        yield CheckResult("simulation", "problem", wrong, _pip("install --force-reinstall mujoco"))


def rendering() -> Iterator[CheckResult]:
    """Pictures without a display; each backend in a process of its own, for MuJoCo chooses once."""
    backends = ("egl", "osmesa") if sys.platform == "linux" else ("",)
    working = [backend for backend in backends if _renders(backend)]
    if not working:
        yield CheckResult(
            "rendering",
            "warning",
            "no way to draw without a display: videos and pictures of simulations will fail",
            "apt-get install libegl1, or libosmesa6, on Debian and Ubuntu"
            if sys.platform == "linux"
            else "run in a desktop session",
        )
    elif working == [""]:
        yield CheckResult("rendering", "ok", "works")
    else:
        chosen = os.environ.get("MUJOCO_GL")
        found = f"works with {' and '.join(working)}; MUJOCO_GL is {chosen or 'not set'}"
        if chosen is None or chosen in working:
            yield CheckResult("rendering", "ok", found)
        else:
            yield CheckResult("rendering", "warning", found, f"export MUJOCO_GL={working[0]}")


def samplers() -> Iterator[CheckResult]:
    """Every registered sampler can be made, and every sampler file of ours is registered."""
    from flowrl.contracts.errors import UsageError
    from flowrl.samplers import registry

    names = registry.names()
    for name in names:
        try:
            registry.make(name)
        except UsageError as error:
            yield CheckResult(f"sampler {name}", "warning", str(error), "uninstall or repair its package")
    unregistered = _unregistered_files()
    if unregistered:
        found = f"no entry point for {', '.join(file.name for file in unregistered)}"
        yield CheckResult("samplers", "warning", f"{found}: added since the installation", _reinstall())
    elif names:
        yield CheckResult("samplers", "ok", ", ".join(names))
    else:
        yield CheckResult("samplers", "problem", "none is registered", _reinstall())


def recipes() -> Iterator[CheckResult]:
    """The recipes that ship with the package."""
    from flowrl.config.recipe import shipped_names

    if shipped := shipped_names():
        yield CheckResult("recipes", "ok", ", ".join(shipped))
    else:
        yield CheckResult("recipes", "problem", "none in the package", _reinstall(force=True))


def folder() -> Iterator[CheckResult]:
    """Runs are written below the working directory."""
    here = Path("runs") if Path("runs").is_dir() else Path.cwd()
    remedy = "change to a folder of your own, or give --out"
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"flowrl")
    except OSError as error:
        yield CheckResult("run folder", "warning", f"{here} cannot be written: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(here).free
    enough = free >= LEAST_FREE_BYTES
    found = f"{here.absolute()} is writable, {free / 2**30:.1f} GiB free"
    yield CheckResult("run folder", "ok" if enough else "warning", found, "" if enough else "free some space")


# ------------------------------------------------------------------------------- what is installed


@dataclass(frozen=True)
class Requirement:
    """A line of our metadata, such as `pytest>=8.3; extra == 'test'`."""

    name: str
    least: str  # version, or '' for any
    extra: str | None  # the optional group it belongs to

    @classmethod
    def parse(cls, line: str) -> Requirement:
        """Read the form in which hatchling writes what our pyproject.toml says: name>=version."""
        name = re.match(r"[\w.-]+", line)
        least = re.search(r">=\s*([\d.]+)", line)
        extra = re.search(r"extra == ['\"]([^'\"]+)", line)
        return cls(name[0] if name else line, least[1] if least else "", extra[1] if extra else None)


def _requirements() -> list[Requirement]:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return [Requirement.parse(line) for line in metadata.requires(DISTRIBUTION) or ()]
    return []


def _checked(requirement: Requirement) -> CheckResult:
    found = _version(requirement.name) or "not installed"
    if _fulfilled(requirement):
        return CheckResult(requirement.name, "ok", found)
    return CheckResult(
        requirement.name, "problem", f"{found}, needs {requirement.least} or newer", _reinstall()
    )


def _fulfilled(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and _numbers(version) >= _numbers(requirement.least)


def _numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13, 0)"""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


def _version(distribution: str) -> str | None:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def _reinstall(extra: str = "", force: bool = False) -> str:
    """The command that installs flowrl anew: from its clone, when it came from one."""
    group = f"[{extra}]" if extra else ""
    clone = Path(__file__).parents[3]
    is_clone = (clone / "pyproject.toml").is_file()
    source = f"-e '{clone}{group}'" if is_clone else f"'{DISTRIBUTION}{group}'"
    return _pip(f"install {'--force-reinstall --no-deps ' if force else ''}{source}")


def _pip(command: str) -> str:
    """A command for the pip of this interpreter, which a shell may not find by that name, or for uv's."""
    found, here = shutil.which("pip"), shlex.quote(sys.executable)
    if found and Path(found).parent == Path(sys.executable).parent:
        return f"pip {command}"
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip {command} --python {here}"
    return f"{here} -m pip {command}"


def _renders(backend: str) -> bool:
    environment = os.environ | ({"MUJOCO_GL": backend} if backend else {})
    command = [sys.executable, "-c", RENDER]
    try:
        outcome = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return outcome.returncode == 0


def _unregistered_files() -> list[Path]:
    """Files beside our registered samplers that define a sampler, though no entry point leads to them.

    Entry points are written at installation: a file added to a clone later stays unknown until the next one.
    """
    from flowrl.samplers.discovery import defines_a_sampler, offers

    ours = [
        offer
        for namesakes in offers().values()
        for offer in namesakes
        if offer.dist is not None and offer.dist.name == DISTRIBUTION
    ]
    registered = {offer.module for offer in ours}
    unregistered = []
    for package in {module.partition(".")[0] for module in registered}:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            files = {f"{package}.{file.stem}": file for file in sorted(Path(place).glob("[!_]*.py"))}
            unregistered += [
                file for name, file in files.items() if name not in registered and defines_a_sampler(name)
            ]
    return unregistered
