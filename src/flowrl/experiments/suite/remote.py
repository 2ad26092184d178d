"""A trial on its way to another machine, and what a worker of a cluster does there: it makes this one trial.

The worker calls the scheduler of this package, so that locks, resume, evaluation, records and signals are those of a
local suite. Recipe, folder and options travel resolved: a recipe that is edited while a job waits changes nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowrl import __version__
from flowrl.config import recipe
from flowrl.config.schema import Config
from flowrl.contracts.errors import BUG, FlowrlError, UsageError, in_one_line
from flowrl.contracts.notices import say
from flowrl.experiments.suite import executor, processes, scheduler
from flowrl.experiments.suite.executor import Report, RunningTrial
from flowrl.experiments.suite.local import LocalExecutor, LocalTrial
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.result import TrialResult, failure_of
from flowrl.experiments.suite.trial import Failure, TrialRecord
from flowrl.storage.files import write_text

PATIENCE_S = 60.0  # that a worker waits for a trial whose former worker may still be saving it


@dataclass(frozen=True)
class RemoteTrial:
    """A trial with all that a worker on another machine needs; its paths are absolute."""

    job: Job
    current_folder: str  # in which the command was typed; files of one's own code may be relative to it
    parallel: int  # trials at a time
    version: str = __version__

    @property
    def cpus(self) -> int:
        """The number of CPUs to ask for: PyTorch's threads or those of the simulation, which take turns."""
        return max(self.job.config["threads"], self.job.config["env"].get("threads") or 1)

    @property
    def gpus(self) -> int:
        """The number of GPUs to ask for."""
        return int(str(self.job.config["device"]).startswith("cuda"))


def packed(job: Job, parallel: int) -> RemoteTrial:
    """Prepare a trial for its journey: its resolved recipe is written beside its folder. Raises StorageError."""
    folder = job.folder.absolute()
    path = folder.with_name(f"{folder.name}.yaml")
    write_text(path, recipe.dump(Config.model_validate(job.config)))
    return RemoteTrial(replace(job, folder=folder, recipe=path), str(Path.cwd()), parallel)


class TrialMaker:
    """Makes a trial in a worker process and returns its result as plain values: see `unpacked`."""

    def __init__(self) -> None:
        self._executor: _WatchedExecutor | None = None

    def __call__(self, trial: RemoteTrial) -> dict[str, Any]:
        """Make the trial, or continue it; an error of flowrl is returned as a failure."""
        try:
            _enter(trial)
            self._executor = _WatchedExecutor(trial.parallel)
            outcome = scheduler.run([trial.job], 1, say, executor=self._executor, patience_s=PATIENCE_S)
        except Exception as error:
            code = error.exit_code if isinstance(error, FlowrlError) else BUG
            message = str(error) if isinstance(error, FlowrlError) else in_one_line(error)
            failure = failure_of(trial.job, "train", code, f"{message} (on {socket.gethostname()})")
            return {"state": "failed", "record": None, "failure": failure.model_dump(mode="json"), "stopped": False}
        (result,) = outcome.results
        plain = {
            name: None if part is None else part.model_dump(mode="json")
            for name, part in (("record", result.record), ("failure", result.failure))
        }
        return {"state": result.state, **plain, "stopped": outcome.signal is not None}

    def checkpoint(self, trial: RemoteTrial) -> Any:
        """Let the trial save itself and return the same call for a later job: submitit asks before a time limit."""
        from submitit.helpers import DelayedSubmission

        if self._executor is not None:
            executor.end_all(self._executor.running)
        return DelayedSubmission(TrialMaker(), trial)


def unpacked(job: Job, plain: dict[str, Any]) -> TrialResult:
    """Return the result of a trial from the plain values of `TrialMaker`."""
    record = None if plain["record"] is None else TrialRecord.model_validate(plain["record"])
    failure = None if plain["failure"] is None else Failure.model_validate(plain["failure"])
    return TrialResult(job.trial, plain["state"], record, failure)


class _WatchedExecutor(LocalExecutor):
    """Local processes, which a signal to the worker can end."""

    running: Sequence[RunningTrial] = ()

    def start(self, job: Job, report: Report) -> LocalTrial | TrialResult | None:
        """Begin the next step of a trial."""
        begun = super().start(job, report)
        self.running = [begun] if isinstance(begun, LocalTrial) else []
        return begun


def _enter(trial: RemoteTrial) -> None:
    """Go to the folder in which the command was typed. Raises UsageError where this machine is not like that one."""
    if trial.version != __version__:
        raise UsageError(f"the command was typed with flowrl {trial.version}, and its worker has {__version__}.")
    path = trial.job.recipe
    if path is None or not path.is_file():
        raise UsageError(f"{path} does not exist here: all machines need to see --out under the same path.")
    try:
        os.chdir(trial.current_folder)
    except OSError as error:
        raise UsageError(
            f"{trial.current_folder}, where the command was typed: {error.strerror}. Type it in a folder that all "
            "machines see under the same path."
        ) from error
    os.environ[processes.END_WITH_PARENT] = "1"
