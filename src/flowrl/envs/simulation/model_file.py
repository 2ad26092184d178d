"""The MuJoCo model that a task class names, compiled; what is wrong with it is one paragraph."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import mujoco

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.simulation.mujoco_batch import WORKSPACE

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
    text = isinstance(xml, str) and "<" in xml
    place = "the MJCF text" if text else "the MjSpec" if isinstance(xml, mujoco.MjSpec) else str(folder / xml)
    try:
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
