"""The graphics library that MuJoCo draws with where there is no screen, and what to install where there is none."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import Any

LIBRARIES = (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8"), ("osmesa", "libOSMesa.so.6"))
INSTALL = (
    "Without a screen MuJoCo needs EGL or OSMesa: `apt-get install libegl1` (then MUJOCO_GL=egl), or "
    "`apt-get install libosmesa6` (then MUJOCO_GL=osmesa)."
)
SHADOWS = 1024  # pixels: a processor draws a picture in a third of the time that MuJoCo's usual 4096 take


def library_without_screen() -> str:
    """The value of MUJOCO_GL to draw with where there is no screen; empty where there is one, or no library."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ""
    for name, library in LIBRARIES:
        with suppress(OSError):
            ctypes.CDLL(library)
            return name
    return ""


def choose() -> None:
    """Set MUJOCO_GL, unless it is set, for where there is no screen; MuJoCo reads it when it is first imported.

    It stays unset where no library is installed: with the name of a missing one `import mujoco` would fail.
    """
    library = library_without_screen()
    if library and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = library


def lighten(model: Any) -> None:
    """Make the pictures of an MjModel cheap to draw; before its first one."""
    model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, SHADOWS)
