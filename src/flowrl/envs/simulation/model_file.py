"""The MuJoCo model that a task class names, compiled; what is wrong with it is one paragraph."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mujoco

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.contracts.notices import say
from flowrl.envs.simulation.mujoco_batch import WORKSPACE
from flowrl.envs.state_capture import configure_mujoco_log

UNSET = -1  # of MjSpec.memory


def compiled(task: type[Any]) -> mujoco.MjModel:
    """Compile the model `task.xml`: a file relative to that of the class, MJCF text, or an MjSpec.

    Raises UsageError, with the line that MuJoCo names, for a model that cannot be read, or without limited actuators.
    """
    owner = next((each for each in task.__mro__ if "xml" in vars(each)), None)
    if owner is None:
        raise UsageError(
            f"{task.__name__} has no model: give the class an attribute xml, the name of an MJCF file beside "
            f"{file_of(task).name}, MJCF text, or a mujoco.MjSpec."
        )
    xml, folder = task.xml, file_of(owner).parent
    if not isinstance(xml, str | Path | mujoco.MjSpec) or (isinstance(xml, str) and not xml.strip()):
        what = f"a {type(xml).__name__}, {xml!r}" if not isinstance(xml, str) else "blank"
        raise UsageError(
            f"{task.__name__}.xml is {what}: give it the name of an MJCF file beside {file_of(owner).name}, such "
            "as 'robot.xml', MJCF text, or a mujoco.MjSpec."
        )
    text = isinstance(xml, str) and "<" in xml
    place = "the MJCF text" if text else "the MjSpec" if isinstance(xml, mujoco.MjSpec) else str(folder / xml)
    try:
        with warnings_of_mujoco() as warned:
            if isinstance(xml, mujoco.MjSpec):
                spec = xml.copy()
            elif text:
                spec = mujoco.MjSpec.from_string(xml)
                spec.modelfiledir = str(folder)
            else:
                spec = mujoco.MjSpec.from_file(str(existing(task, folder / xml)))
            if spec.memory == UNSET:
                spec.memory = WORKSPACE
            model = spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{task.__name__}.xml: MuJoCo cannot compile {place}: {reason}") from None
    check_numbers(task, model, place, warned)
    check_actuators(task, model)
    return model


def file_of(owner: type[Any]) -> Path:
    """Return the Python file that defines the class `owner`; for a class that was typed in, a file of the present
    folder."""
    try:
        return Path(inspect.getfile(owner)).resolve()
    except (OSError, TypeError):
        module = sys.modules.get(owner.__module__)
        return Path(getattr(module, "__file__", None) or "task.py").resolve()


def existing(task: type[Any], path: Path) -> Path:
    """Return `path`; raises UsageError, with the models that lie beside it, unless it is a file."""
    if path.is_file():
        return path
    beside = sorted(each.name for each in path.parent.glob("*.xml")) if path.parent.is_dir() else []
    listed = f" There are {', '.join(beside[:8])}." if beside else ""
    raise UsageError(
        f"{task.__name__}.xml: there is no file {path}.{did_you_mean(path.name, beside)}{listed} A name is relative "
        "to the file of the class."
    )


@contextmanager
def warnings_of_mujoco() -> Iterator[list[str]]:
    """Yield a list that gets what MuJoCo warns of inside, and write no MUJOCO_LOG.TXT."""
    configure_mujoco_log(console=True)
    found: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(found.append)
    try:
        yield found
    finally:
        mujoco.set_mju_user_warning(before)


def check_numbers(task: type[Any], model: mujoco.MjModel, place: str, warned: list[str]) -> None:
    """Raise UsageError for a model without a time step, or with numbers that are NaN, of which MuJoCo only `warned`.

    Further warnings are printed.
    """
    if not 0 < model.opt.timestep < math.inf:
        raise UsageError(
            f"{task.__name__}.xml: its time step is {model.opt.timestep:g} s, so nothing would move. Write <option "
            'timestep="0.002"/>, or leave it out: 0.002 s is what MuJoCo takes then.'
        )
    if any("NaN" in text for text in warned):  # a mass of nan counts as one that is not given
        raise UsageError(
            f"{task.__name__}.xml: {place} has a number that is NaN (nan), for which MuJoCo takes a value of its own. "
            "Write a number there, such as a mass in kg or a size in m."
        )
    for text in warned:
        say(f"note: {task.__name__}.xml: MuJoCo warns of {place}: {text}")


def check_actuators(task: type[Any], model: mujoco.MjModel) -> None:
    """Raise UsageError unless the model has actuators, each with a range of controls."""
    if model.nu == 0:
        raise UsageError(
            f"{task.__name__}.xml: the model has no actuators, so there is nothing to control. Add <actuator> with a "
            '<motor joint="…" ctrlrange="-1 1"/> or a <position …/> for each joint that a policy should move.'
        )
    for number in range(model.nu):
        low, high = model.actuator_ctrlrange[number]
        if not (model.actuator_ctrllimited[number] and low < high):
            name = model.actuator(number).name or f"number {number}"
            raise UsageError(
                f"{task.__name__}.xml: the actuator {name} has no range. Give it ctrlrange, such as "
                'ctrlrange="-1 1": a policy\'s actions in [-1, 1] are scaled to it.'
            )
