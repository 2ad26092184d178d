"""The graphics library with which MuJoCo draws without a screen, and advice where none is installed."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from flowrl.contracts.errors import MissingDependency, UsageError

LIBRARIES = (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so.6"))
OFF = ("disable", "disabled", "off", "false", "0")
# values of MUJOCO_GL on Linux
KNOWN = ("egl", "osmesa", "glfw", "glx", "enable", "enabled", "on", "true", "1", *OFF)
INSTALL = (
    "Without a screen MuJoCo needs EGL or OSMesa: `apt-get install libegl1` (then MUJOCO_GL=egl), or "
    "`apt-get install libosmesa6` (then MUJOCO_GL=osmesa)."
)
SHADOWS = 1024  # pixels: a CPU draws a picture in a third of the time of MuJoCo's default, 4096


def library_without_screen() -> str:
    """Return the value of MUJOCO_GL for drawing without a screen; empty where there is a screen, or no library."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ""
    return next((name for name, library in LIBRARIES if _loads(library)), "")


def choose() -> None:
    """Set MUJOCO_GL, unless it is set, where there is no screen; MuJoCo reads it when it is first imported.

    It stays unset where no library is installed: with the name of a missing one `import mujoco` would fail. Raises
    what `check` does.
    """
    check()
    library = library_without_screen()
    if library and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = library


def check() -> None:
    """Raise MissingDependency where MUJOCO_GL makes `import mujoco` fail: an unknown value, or a missing library."""
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if sys.platform != "linux" or not chosen:
        return
    remedy = "Type `unset MUJOCO_GL` to let flowrl choose."
    if chosen not in KNOWN:
        raise MissingDependency(
            f"MUJOCO_GL={chosen} is no graphics library that MuJoCo knows, and so it does not start. {remedy}"
        )
    libraries = [library for name, library in LIBRARIES if name == chosen]
    if libraries and not any(map(_loads, libraries)):
        raise MissingDependency(
            f"MUJOCO_GL={chosen}, but {' or '.join(libraries)} is not installed, and so MuJoCo does not start. "
            f"{remedy} {INSTALL}"
        )


def refuse_off() -> None:
    """Raise UsageError where MUJOCO_GL switches drawing off."""
    chosen = os.environ.get("MUJOCO_GL", "")
    if chosen.lower().strip() in OFF:
        raise UsageError(f"MUJOCO_GL={chosen} switches drawing off. Type `unset MUJOCO_GL` to draw.")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def lighten(model: Any) -> None:
    """Make the pictures of an MjModel cheaper to draw; call it before the first one."""
    model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, SHADOWS)
