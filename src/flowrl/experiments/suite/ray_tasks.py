"""Ray as the engine of a suite: one task for each trial, on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from flowrl.contracts.errors import MissingDependency, UsageError
from flowrl.contracts.installing import reinstall
from flowrl.experiments.suite.cluster import Lost
from flowrl.experiments.suite.remote import RemoteTrial, TrialMaker


class RayTask:
    """A task of Ray."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.id: str = reference.hex()[:16]
        self._ray = ray
        self._reference = reference

    def outcome(self) -> dict[str, Any] | Lost | None:
        """Return what the call has returned, or that its worker was lost; None while the task waits or runs."""
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return self._ray.get(self._reference)
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Lost(f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300])

    def cancel(self, *, kill: bool) -> None:
        """Ask the worker to save the trial and end, or kill it."""
        self._ray.cancel(self._reference, force=kill)


class RayEngine:
    """Runs trials as tasks of the Ray cluster at `address`.

    Without an address, that is the cluster of the variable RAY_ADDRESS, else one that runs on this machine, else a new
    one on this machine, which ends with this process. Raises MissingDependency without Ray, UsageError when nothing
    answers at the address.
    """

    name = "Ray"
    keeps_jobs = False

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # flowrl sends nothing to anybody
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"--on ray needs the package ray, which is not installed. Type: {reinstall('ray')}"
            ) from error
        self._ray = ray
        try:
            ray.init(address=address or None, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # of many types, plain ones among them
            reason = " ".join(str(error).split())[:300]
            raise UsageError(f"--on ray{f':{address}' if address else ''}: no cluster answers: {reason}") from error

    def submit(self, trial: RemoteTrial) -> RayTask:
        """Submit a trial as one task."""
        maker = TrialMaker()

        def make_trial(packed: RemoteTrial) -> dict[str, Any]:
            return maker(packed)

        task = self._ray.remote(num_cpus=trial.cpus, num_gpus=trial.gpus, max_retries=0)(make_trial)
        return RayTask(self._ray, task.options(name=str(trial.job.trial)).remote(trial))

    def find(self, job_id: str) -> None:
        """Return nothing: the tasks of a process end with it."""

    def farewell(self, jobs: Sequence[str]) -> str:
        """Say that nothing goes on."""
        return f"{len(jobs)} tasks of Ray end with this process."
