"""A process per environment: `env.mode: async`, with a limit on the time of every answer and an end that is certain."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import select
import signal
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from flowrl.contracts.errors import EnvironmentFailed, in_one_line

CLOSING_S = 10.0  # seconds for all workers to close their environments; then they are killed
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP")  # that reach the group of processes: the main one handles them and ends us

PR_SET_PDEATHSIG = 1  # of prctl(2), Linux: the signal to this process when its parent ends

_inside = False


def in_worker() -> bool:
    """Return whether this process is a worker."""
    return _inside


class WorkerVectorEnv(AsyncVectorEnv):
    """Gymnasium's AsyncVectorEnv with SAME_STEP autoreset, whose calls end after `timeout_s` seconds (None: never).

    A call that is not answered in time raises multiprocessing.TimeoutError. `close` asks the workers to close their
    environments and then kills what is left, stopped processes too.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]], timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        level = gymnasium.logger.min_level
        gymnasium.logger.min_level = gymnasium.logger.ERROR + 1  # it would print the traceback of a worker
        try:
            super().__init__(makers, copy=False, worker=work, autoreset_mode=AutoresetMode.SAME_STEP)  # type: ignore[arg-type]
        except multiprocessing.TimeoutError:
            late = ", ".join(map(str, self.silent()[:8]))
            self.close(terminate=True)
            raise EnvironmentFailed(
                f"environment {late} was not made within {timeout_s:g} s: its constructor hangs, is stopped, or needs "
                "longer. Raise the limit with --set env.timeout_s=SECONDS (0: none), or make it with env.mode=sync to "
                "see where it hangs."
            ) from None
        except (EOFError, ConnectionError):
            raise EnvironmentFailed(self.deaths() or "a worker process ended while it made its environment") from None
        finally:
            gymnasium.logger.min_level = level

    def _check_spaces(self) -> None:
        # They ignore SIGTERM, with which multiprocessing would end them when Python exits.
        weakref.finalize(self, _kill, self.processes, os.getpid())
        question = (self.observation_mode, self.single_observation_space, self.single_action_space)
        for pipe in self.parent_pipes:
            pipe.send(("_check_spaces", question))
        for index, same in enumerate(self._answers()):
            if not all(same):
                name = "action" if same[0] else "observation"
                raise EnvironmentFailed(f"the {name} space of environment {index} is not that of the others")

    def set_attr(self, name: str, values: list[Any] | tuple[Any, ...] | object) -> None:
        """Set an attribute of every environment: to its own of a list or tuple of `values`, or to the same value."""
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        for pipe, value in zip(self.parent_pipes, each, strict=True):
            pipe.send(("_setattr", (name, value)))
        self._answers()

    def close_each(self) -> tuple[str | None, ...]:
        """Close the environments within `CLOSING_S`, or a shorter `timeout_s`; returns what each raised, or None."""
        limit = min(CLOSING_S, self.timeout_s or CLOSING_S)
        self.call_async("close_quietly")
        try:
            return self.call_wait(limit)
        except multiprocessing.TimeoutError:
            late = ", ".join(map(str, self.silent()[:8]))
            raise EnvironmentFailed(f"environment {late} did not close within {limit:g} s") from None

    def _answers(self) -> tuple[Any, ...]:
        """Return the answers of all workers to what was sent; raises multiprocessing.TimeoutError."""
        if not self._poll_pipe_envs():
            raise multiprocessing.TimeoutError
        answers, successes = zip(*[pipe.recv() for pipe in self.parent_pipes], strict=True)
        self._raise_if_errors(successes)
        return answers

    def _poll_pipe_envs(self, timeout: float | None = None) -> bool:
        """Wait for the answers of all workers; returns whether they came within `timeout` seconds.

        Time in which this process was stopped does not count: each wait is at most a second.
        """
        left = self.timeout_s if timeout is None else timeout
        if left is None:
            return True
        for pipe in self.parent_pipes:
            if pipe is None or pipe.closed:
                return False
            while not answered(pipe, min(1.0, left)):
                left -= 1.0
                if left <= 0:
                    return False
        return True

    def silent(self) -> list[int]:
        """Return the environments that have not answered the pending call."""
        open_pipes = [(index, pipe) for index, pipe in enumerate(self.parent_pipes) if pipe and not pipe.closed]
        return [index for index, pipe in open_pipes if not pipe.poll(0)]

    def deaths(self) -> str:
        """Describe the worker processes that have ended, or return ''."""
        ends: list[str] = []
        for index, process in enumerate(self.processes):
            process.join(0.2 if not ends else 0)  # the end of its pipe is seen before that of the process
            if (code := process.exitcode) is not None:
                how = f"with exit code {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
                ends.append(f"{index} (ended {how})")
        if not ends:
            return ""
        many = f" and {len(ends) - 4} more" if len(ends) > 4 else ""
        return f"a worker process died: of environment {', '.join(ends[:4])}{many}"

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Close the environments within `timeout` seconds, or at once with `terminate`, and end all processes."""
        deadline = time.monotonic() + (0.0 if terminate else CLOSING_S if timeout is None else timeout)
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None and not pipe.closed]
        with suppress(OSError, EOFError):
            for pipe in [] if terminate else pipes:
                pipe.send(("close", None))
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        _kill(self.processes, os.getpid())
        for pipe in pipes:
            pipe.close()


def answered(pipe: Connection, timeout_s: float) -> bool:
    """Return whether something can be read from `pipe` within `timeout_s`: as `pipe.poll`, in a tenth of its time."""
    if not hasattr(select, "poll"):  # Windows
        return pipe.poll(timeout_s)
    poller = select.poll()
    poller.register(pipe.fileno(), select.POLLIN)
    return bool(poller.poll(1000 * timeout_s))


def _kill(processes: Sequence[BaseProcess], owner: int) -> None:
    """Kill `processes`, which the process `owner` has started, and wait a moment for their end."""
    if os.getpid() != owner:
        return
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join(5.0)


def work(
    index: int,
    maker: Callable[[], gymnasium.Env[Any, Any]],
    pipe: Connection,
    parent_pipe: Connection,
    shared_memory: Any,
    errors: Any,
    autoreset_mode: AutoresetMode,
    semaphore: Any,
) -> None:
    """Run one environment as Gymnasium's worker does, after `become_worker`; report a constructor that fails."""
    become_worker(index)
    try:
        env = maker()
    except BaseException as error:
        parent_pipe.close()
        with suppress(OSError, EOFError):
            pipe.recv()  # the first question, which is about the spaces
            text = str(error) if isinstance(error, EnvironmentFailed) else in_one_line(error)
            errors.put((index, EnvironmentFailed, f"environment {index} cannot be made: {text}", ""))
            pipe.send((None, False))
        return
    with suppress(OSError, EOFError):  # the main process is gone
        _async_worker(index, lambda: env, pipe, parent_pipe, shared_memory, errors, autoreset_mode, semaphore)


def become_worker(index: int) -> None:
    """Leave signals to the main process, end with it, and draw other global random numbers than the other workers."""
    global _inside
    _inside = True
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ignore)
    if sys.platform == "linux":  # elsewhere it ends when it next reads its pipe
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    seed_global_generators(random.getrandbits(32), index)  # the run's seed has set the first word


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Unlike SIG_IGN, programs that an environment starts do not inherit it: SIGTERM ends them."""


def seed_global_generators(*words: int) -> None:
    """Seed the global generators of Python, NumPy and torch with independent words made of `words`."""
    for_python, for_numpy, for_torch = np.random.SeedSequence(words).generate_state(3).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)  # noqa: NPY002  environments may draw from the global generator
    torch.default_generator.manual_seed(for_torch)  # the CPU's alone: a worker has no GPU


def global_generators() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch."""
    _, words, gauss = random.getstate()
    twister: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "python": {"words": np.array(words, dtype=np.uint32), "gauss": gauss},
        "numpy": {"key": twister["state"]["key"].copy(), "pos": int(twister["state"]["pos"])}
        | {"has_gauss": int(twister["has_gauss"]), "gauss": float(twister["gauss"])},
        "torch": torch.get_rng_state().numpy().copy(),
    }


def restore_global_generators(state: dict[str, Any]) -> None:
    """Restore what `global_generators` returned."""
    python, twister = state["python"], state["numpy"]
    random.setstate((3, tuple(python["words"].tolist()), python["gauss"]))
    numbers = (twister["pos"], twister["has_gauss"], twister["gauss"])
    np.random.set_state(("MT19937", twister["key"], *numbers))  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
