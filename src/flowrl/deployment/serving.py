"""A deployed policy in Python: NumPy in, NumPy out, without torch."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowrl.contracts.errors import UsageError
from flowrl.deployment.backends import Backend, Numbers

OnBad = Literal["raise", "hold"]
REAL = "fiub"  # the kinds of NumPy's numbers that are real: floats, integers with and without a sign, booleans
DRAWS = ("random", "zero", "fixed")


@dataclass(frozen=True)
class Latency:
    """Percentiles of the time of a call in microseconds."""

    calls: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


def _numbers(obs: ArrayLike) -> NDArray[Any]:
    """Return what is no array as one; raises UsageError for what holds no numbers."""
    try:
        return np.asarray(obs, dtype=np.float32)
    except (TypeError, ValueError):
        raise UsageError(
            f"{reprlib.repr(obs)} was given as an observation: this policy takes an array of real numbers."
        ) from None


class DeployedPolicy:
    """A policy for a control loop: `act(obs)` returns the action that the environment or the robot takes.

    Observations are those that the environment gives, (observation,) or (rows, observation), of any number type; they
    become float32. Actions are float32, (action,) or (rows, action), within the bounds unless the policy was loaded
    `raw`. A call without `out=` returns a new array. `select_action` is another name of the call.

    An observation that is not finite raises FloatingPointError, or, with `on_bad="hold"`, gives the last good action
    (zeros before the first). Not safe for threads: load one policy in each.
    """

    def __init__(
        self,
        backend: Backend,
        observation_size: int,
        action_size: int,
        *,
        noise: str = "random",
        seed: int = 0,
        noise_factor: float = 1.0,
        own_noise: bool = False,
        on_bad: OnBad = "raise",
        contract: Mapping[str, Any] | None = None,
        nfe: float | None = None,
        sampler: str | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Use `load`. `own_noise` is whether the backend has its noise itself; `noise_factor` multiplies the noise."""
        if noise not in DRAWS:
            raise UsageError(f"noise={noise!r}: expected one of {', '.join(DRAWS)}.")
        if on_bad not in ("raise", "hold"):
            raise UsageError(f"on_bad={on_bad!r}: expected raise or hold.")
        self.backend = backend.name
        self.observation_size, self.action_size = observation_size, action_size
        self.contract = dict(contract or {})
        self.nfe, self.sampler = nfe, sampler
        self._call = backend
        self._noise, self._seed = noise, seed
        self._factor, self._own_noise, self._hold = np.float32(noise_factor), own_noise, on_bad == "hold"
        self._close = close
        self._one = self._obs, self._drawn, self._out = self._rows(1)
        self._last = np.zeros(action_size, dtype=np.float32)
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: forget the last action; with a `seed`, begin its sequence of noise.

        Raises UsageError for a seed that is no whole number from 0 on.
        """
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise UsageError(f"seed={seed!r}: expected a whole number from 0 on.")
        self._last[:] = 0
        if seed is not None or not hasattr(self, "_random"):
            self._seed = self._seed if seed is None else seed
            self._random = np.random.Generator(np.random.Philox(self._seed))
            fixed = self._random.standard_normal((1, self.action_size), dtype=np.float32)
            self._fixed = fixed * self._factor

    def __call__(
        self, obs: ArrayLike, noise: ArrayLike | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the action (action,) of `obs` (observation,), or the actions (rows, action) of (rows, observation).

        `noise` has the shape of the actions and replaces the draws: N(0, 1). `out` has it, too, and gets the result.
        Raises UsageError for another size, and FloatingPointError for what is not finite.
        """
        values: Any = obs if isinstance(obs, np.ndarray) else _numbers(obs)
        if values.dtype.kind not in REAL:
            raise UsageError(
                f"an observation of {values.dtype} numbers was given: this policy takes real numbers, such as float32."
            )
        single = values.ndim == 1
        rows = 1 if single else len(values) if values.ndim == 2 else -1
        if rows < 1 or values.shape[-1] != self.observation_size:
            raise UsageError(
                f"an observation of shape {values.shape} was given: this policy takes ({self.observation_size},) or "
                f"(rows, {self.observation_size})."
            )
        if rows == 1:
            self._obs, self._drawn, self._out = self._one
        elif rows != len(self._out):
            self._obs, self._drawn, self._out = self._rows(rows)
        self._obs[...] = values
        if not self._call(self._obs, self._draw(noise, rows), self._out):
            self._repair()
        self._last[:] = self._out[-1]
        result = self._out[0] if single else self._out
        if out is None:
            return result.copy()
        if out.shape != result.shape:
            raise UsageError(f"out= has the shape {out.shape}: expected {result.shape}.")
        out[...] = result
        return out

    select_action = __call__

    def latency(self, calls: int = 5000) -> Latency:
        """Time `calls` calls with one observation, after 100 others; raises UsageError for fewer than 100."""
        if calls < 100:
            raise UsageError(f"latency(calls={calls}): a 99th percentile needs at least 100 calls.")
        obs = np.zeros(self.observation_size, dtype=np.float32)
        out = np.zeros(self.action_size, dtype=np.float32)
        times = np.empty(calls)
        for call in range(-100, calls):
            begun = time.perf_counter_ns()
            self(obs, out=out)
            if call >= 0:
                times[call] = (time.perf_counter_ns() - begun) / 1e3
        p50, p90, p99 = np.percentile(times, [50, 90, 99]).tolist()
        return Latency(calls, p50, p90, p99, float(times.max()))

    def close(self) -> None:
        """Free what the backend holds; the policy cannot be called after."""
        self._close()

    def __repr__(self) -> str:
        sizes = f"{self.observation_size} -> {self.action_size}"
        return f"<policy {sizes}, {self.sampler or 'no sampler'}, {self._noise} noise, backend {self.backend}>"

    def _rows(self, rows: int) -> tuple[Numbers, Numbers, Numbers]:
        """Make the arrays of a call with so many rows: observations, noise, actions."""
        sizes = (self.observation_size, self.action_size, self.action_size)
        obs, drawn, out = (np.zeros((rows, size), dtype=np.float32) for size in sizes)
        return obs, drawn, out

    def _draw(self, noise: ArrayLike | None, rows: int) -> Numbers | None:
        drawn = self._drawn
        if noise is not None:
            if self._own_noise:
                raise UsageError(
                    "noise= was given to a policy that was exported with its own noise "
                    f"({self.contract.get('noise', {}).get('mode')}). Export it with --noise input."
                )
            given = np.asarray(noise, dtype=np.float32)
            if given.size != drawn.size or given.shape[-1] != self.action_size:
                raise UsageError(f"noise= has the shape {given.shape}: expected {(rows, self.action_size)}.")
            np.multiply(given.reshape(drawn.shape), self._factor, out=drawn)
        elif self._own_noise:
            return None
        elif self._noise == "random":
            self._random.standard_normal(out=drawn, dtype=np.float32)
            if self._factor != 1:
                drawn *= self._factor
        else:
            drawn[...] = self._fixed if self._noise == "fixed" else 0
        return drawn

    def _repair(self) -> None:
        """Put the last good action in the place of rows that are not finite, or raise FloatingPointError."""
        bad = ~np.isfinite(self._out).all(axis=1)
        if not self._hold:
            wrong = np.flatnonzero(~np.isfinite(self._obs[int(np.argmax(bad))])).tolist()
            what = f"the observation's numbers {wrong[:8]} are" if wrong else "the action is"
            raise FloatingPointError(
                f"{what} not finite. Hold the last action, or stop the robot; on_bad='hold' in flowrl.load holds it."
            )
        self._out[bad] = self._last
