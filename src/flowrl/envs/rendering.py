"""Pictures of an environment, drawn without a display; and advice where none can be drawn."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, MissingDependency, UsageError, in_one_line
from flowrl.contracts.installing import reinstall
from flowrl.envs import opengl
from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import make
from flowrl.envs.lookup import constructor, find, parameters, steps_together
from flowrl.envs.settings import EnvSettings
from flowrl.envs.validation import described

Picture = NDArray[np.uint8]  # (height, width, 3)

MODE = "rgb_array"
# The camera that follows the robot, in Gymnasium's MuJoCo models that have one: a robot that runs soon leaves the
# picture of the default camera.
TRACKING = "track"
DEFAULT_RATE = 30.0  # pictures per second, of an environment that does not name its own
BINDINGS = {"OpenGL", "glfw", "egl", "osmesa", "gl_context.py", "mujoco_rendering.py", "renderer.py"}


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int


def make_visible(settings: EnvSettings, size: Size) -> Adapter:
    """Make one environment whose `render` draws pictures: of `size`, if its constructor takes width and height.

    Raises what `make` does, UsageError for an environment that cannot draw itself, and MissingDependency when
    what it draws with is not installed.
    """
    opengl.choose()  # before anything imports MuJoCo
    creator = _creator(find(settings.id), settings)
    modes = getattr(creator, "metadata", {}).get("render_modes")
    if modes is not None and MODE not in modes:
        raise _no_pictures(settings.id)
    options = dict(settings.options)
    if _takes(creator, {"width", "height"}):
        options = size._asdict() | options
    if _takes(creator, {"camera_name"}) and not {"camera_name", "camera_id"} & options.keys():
        options["camera_name"] = TRACKING
    with _explained(settings.id):
        alone = settings.model_copy(update={"mode": "sync", "options": options})
        return make(alone, count=1, render_mode=MODE, evaluation=True)


def picture(env: Adapter) -> Picture:
    """Draw an environment of `make_visible` (height, width, 3); at an episode's end, before the next one starts."""
    with _explained(env.settings.id):
        shown = env.render()[0]
    image = np.asarray(shown) if isinstance(shown, np.ndarray) else None
    if image is None or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size or image.dtype != np.uint8:
        raise EnvironmentFailed(
            f"{env.settings.id} cannot be played to a video: its render() returned {described(shown)}. With render "
            f"mode {MODE!r} it must return an array (height, width, 3) of uint8. `flowrl eval` needs none."
        )
    if env.frame_shape is None:
        env.frame_shape = image.shape
    return fitted(image[..., :3], env.frame_shape)


def fitted(image: Picture, shape: tuple[int, ...]) -> Picture:
    """Return a copy of `image` of the height and width of `shape`: cut where it is larger, black where smaller."""
    canvas = np.zeros((*shape[:2], 3), dtype=np.uint8)
    height, width = np.minimum(image.shape[:2], shape[:2])
    canvas[:height, :width] = image[:height, :width]
    return canvas


def rate(env: Adapter) -> float:
    """Return the steps per second of simulated time."""
    return float(env.metadata.get("render_fps") or DEFAULT_RATE)


def _creator(spec: EnvSpec, settings: EnvSettings) -> Any:
    """Return the class or function that builds the environment; None where it cannot be imported."""
    with suppress(ImportError, AttributeError):
        return constructor(
            spec.vector_entry_point if steps_together(spec) and not settings.wrappers else spec.entry_point
        )
    return None


def _takes(creator: Any, names: set[str]) -> bool:
    """Return whether `creator` takes arguments of these names, itself or in a class that it passes them on to."""
    if not isinstance(creator, type):
        return callable(creator) and names <= parameters(creator)
    for cls in creator.__mro__:
        init = vars(cls).get("__init__")
        if init is None:
            continue
        taken = inspect.signature(init).parameters
        if names <= taken.keys():
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            return False
    return False


@contextmanager
def _explained(id: str) -> Iterator[None]:
    """Raise failures to draw with their cause: no graphics, a missing package, no pictures at all."""
    try:
        yield
    except FlowrlError as error:
        causes = list(_causes(error))
        if any(map(_of_graphics, causes)) and opengl.INSTALL not in str(error):
            raise _no_graphics(id, causes[-1]) from error
        for cause in causes:
            if isinstance(cause, gymnasium.error.DependencyNotInstalled):
                raise _no_package(id, cause) from error
            if isinstance(cause, NotImplementedError) or "'render_mode'" in str(cause):
                raise _no_pictures(id) from error
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_graphics(error: BaseException) -> bool:
    """Return whether `error` was raised in an OpenGL binding or in the code that opens one."""
    files = [Path(frame.filename).parts[-4:] for frame in traceback.extract_tb(error.__traceback__)]
    return not isinstance(error, ValueError) and any(BINDINGS.intersection(parts) for parts in files)


def _no_graphics(id: str, cause: BaseException) -> MissingDependency:
    chosen = os.environ.get("MUJOCO_GL") or "not set"
    return MissingDependency(f"{id} cannot be drawn (MUJOCO_GL is {chosen}): {in_one_line(cause)}. {opengl.INSTALL}")


def _no_package(id: str, cause: BaseException) -> MissingDependency:
    """Name our extra for pygame, with which Gymnasium draws its classic control tasks, and repeat other advice."""
    if "pygame" in str(cause):
        return MissingDependency(
            f"{id} cannot be drawn: pygame is not installed. Type: {reinstall('classic')}, or pip install pygame."
        )
    return MissingDependency(f"{id} cannot be drawn: {str(cause).rstrip('.')}.")


def _no_pictures(id: str) -> UsageError:
    return UsageError(
        f"{id} cannot be played to a video: it draws no pictures (it has no render mode {MODE!r}). `flowrl eval` "
        "needs none."
    )
