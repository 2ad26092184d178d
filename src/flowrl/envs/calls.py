"""Calls of a vector environment: every failure is one paragraph that names the environment, and closing never fails."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, in_one_line
from flowrl.contracts.notices import say
from flowrl.envs.settings import EnvSettings
from flowrl.envs.workers import WorkerVectorEnv
from flowrl.envs.wrappers import FAULT


class GuardedCalls:
    """Calls methods of `envs`; what they raise is raised as EnvironmentFailed."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], settings: EnvSettings) -> None:
        self.settings = settings
        self.pending = False  # whether a call has not returned
        self._workers = envs if isinstance(envs, WorkerVectorEnv) else None

    def __call__(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return `call(*arguments)`; every failure of an environment is raised as EnvironmentFailed."""
        level = gymnasium.logger.min_level
        if self.settings.mode == "async":  # Gymnasium would print the traceback of a worker
            gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
        try:
            self.pending = True
            result = call(*arguments, **named)
            self.pending = False
            return result
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"{self.settings.id}: {error}") from None
        except multiprocessing.TimeoutError:
            raise EnvironmentFailed(self._late(call)) from None
        except (EOFError, ConnectionError):
            died = self._workers.deaths() if self._workers is not None else ""
            raise EnvironmentFailed(
                f"{self.settings.id}: {died or 'a worker process died'}: killed, out of memory, ended by the "
                "environment, or crashed in native code. Use fewer environments (env.count), or env.mode=sync."
            ) from None
        except FlowrlError:
            raise
        except Exception as error:
            raise EnvironmentFailed(f"{self.settings.id}: {in_one_line(error)}") from error
        finally:
            gymnasium.logger.min_level = level

    def refuse_fault(self, info: dict[str, Any]) -> None:
        """Raise EnvironmentFailed for the first environment whose worker reports a failure in `info`."""
        if FAULT in info:
            raise EnvironmentFailed(f"{self.settings.id}: {info[FAULT][info[f'_{FAULT}']][0]}")

    def _late(self, call: Callable[..., Any]) -> str:
        """Describe a call that worker processes have not answered in time."""
        silent = self._workers.silent() if self._workers is not None else []
        name = getattr(call, "__name__", "a call").lstrip("_")
        return (
            f"{self.settings.id}: environment {first_few(silent)} did not answer to {name} within "
            f"{self.settings.timeout_s:g} s: it hangs, is stopped, or needs longer. Raise the limit with --set "
            "env.timeout_s=SECONDS (0: none), or run it with env.mode=sync to see where it hangs."
        )


def first_few(indexes: list[int], most: int = 8) -> str:
    """Return '3, 5, 9' or, when there are many, '0, 1, …, 7 and 92 more'."""
    more = f" and {len(indexes) - most} more" if len(indexes) > most else ""
    return ", ".join(str(index) for index in indexes[:most]) + more


def close(envs: VectorEnv[Any, Any, Any], id: str, terminate: bool = False) -> None:
    """Close a vector environment; `terminate` ends worker processes that may never answer.

    What an environment raises is printed in one line on stderr: all that is wanted of it is done.
    """
    if envs.closed:
        return
    try:
        if isinstance(envs, WorkerVectorEnv) and terminate:
            envs.close(terminate=True)
            return
        raised: Any = ()
        if isinstance(envs, SyncVectorEnv | AsyncVectorEnv):
            raised = envs.close_each() if isinstance(envs, WorkerVectorEnv) else envs.call("close_quietly")
        envs.close()
        failure = next(filter(None, raised), None)
    except (Exception, SystemExit) as error:
        failure = str(error) if isinstance(error, FlowrlError) else in_one_line(error)
        if isinstance(envs, WorkerVectorEnv):
            envs.close(terminate=True)
    if failure:
        say(f"note: closing {id} failed, which changes no result: {failure}")
