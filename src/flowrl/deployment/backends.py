"""What computes the actions of a deployed policy: the compiled C file, or ONNX Runtime. Nothing here imports torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowrl.deployment import c_compiler, onnx_model

Numbers = NDArray[np.float32]


class Backend(Protocol):
    """Computes actions, row by row."""

    name: str

    def __call__(self, obs: Numbers, noise: Numbers | None, out: Numbers) -> bool:
        """Write the actions `out` (rows, action) for `obs` (rows, observation) and `noise` (rows, action), all of them
        contiguous float32; without noise (None) with the policy's own.

        Returns whether all is finite; the action of a row that is not becomes NaN.
        """
        ...


class CBackend:
    """Calls the function of a compiled policy.c."""

    name = "c"

    def __init__(self, library: Path, prefix: str) -> None:
        self._act = c_compiler.function(library, prefix)
        self._last: tuple[Any, ...] = (None, None, None)  # the arrays of the last call ...
        self._addresses: tuple[int | None, int | None, int | None] = (None, None, None)  # ... and where they are

    def __call__(self, obs: Numbers, noise: Numbers | None, out: Numbers) -> bool:
        """Write the actions; see `Backend`."""
        last = self._last
        if obs is not last[0] or noise is not last[1] or out is not last[2]:
            self._last = (obs, noise, out)
            self._addresses = (obs.ctypes.data, None if noise is None else noise.ctypes.data, out.ctypes.data)
        at_obs, at_noise, at_out = self._addresses
        if len(out) == 1:
            if self._act(at_obs, at_noise, at_out):
                out[0] = np.nan
                return False
            return True
        good = True
        for row in range(len(out)):
            drawn = None if noise is None else noise[row].ctypes.data
            if self._act(obs[row].ctypes.data, drawn, out[row].ctypes.data):
                out[row] = np.nan
                good = False
        return good


class OnnxBackend:
    """Runs the ONNX file, or the bytes of one, in ONNX Runtime."""

    name = "onnx"

    def __init__(self, model: bytes | str) -> None:
        self._session = onnx_model.session(model)
        self.takes_noise = len(self._session.get_inputs()) > 1
        self.sizes = (self._session.get_inputs()[0].shape[-1], self._session.get_outputs()[0].shape[-1])
        self._binding = self._session.io_binding()  # of the arrays of the last call: saves a tenth of its time
        self._last: tuple[Any, ...] = (None, None, None)

    def __call__(self, obs: Numbers, noise: Numbers | None, out: Numbers) -> bool:
        """Write the actions; see `Backend`."""
        last = self._last
        if obs is not last[0] or noise is not last[1] or out is not last[2]:
            self._bind(obs, noise, out)
        self._session.run_with_iobinding(self._binding)
        return mark_bad(obs, out)

    def _bind(self, obs: Numbers, noise: Numbers | None, out: Numbers) -> None:
        """Let the session read and write these arrays, which are kept."""
        self._last = (obs, noise, out)
        fed = {"obs": obs}
        if self.takes_noise:
            fed["noise"] = self._zeros = np.zeros_like(out) if noise is None else noise
        for name, array in fed.items():
            self._binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self._binding.bind_output("actions", "cpu", 0, np.float32, out.shape, out.ctypes.data)


def mark_bad(obs: Numbers, out: Numbers) -> bool:
    """Put NaN into the actions `out` of observations that are not finite, of which a clip may have made numbers.

    Returns whether all is finite.
    """
    if math.isfinite(np.add.reduce(obs, axis=None) + np.add.reduce(out, axis=None)):  # quick; an overflow fails it, too
        return True
    if np.isfinite(obs).all() and np.isfinite(out).all():
        return True
    out[~np.isfinite(obs).all(axis=1)] = np.nan
    return False


def actions_of(backend: Backend, action_size: int, *, given: bool) -> Any:
    """Return the backend as a function (observations, noise) -> actions; `given` is whether the noise is passed on."""

    def act(obs: Numbers, noise: Numbers) -> Numbers:
        out = np.empty((len(obs), action_size), dtype=np.float32)
        backend(np.ascontiguousarray(obs), np.ascontiguousarray(noise) if given else None, out)
        return out

    return act
