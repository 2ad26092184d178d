"""The worker processes of a trial: one flowrl process trains it, the next one evaluates it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Literal

from flowrl.config import named_code
from flowrl.contracts.errors import BUG
from flowrl.experiments import ranks
from flowrl.experiments.suite import processes
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.processes import ForkedProcess
from flowrl.experiments.suite.trial import noise_scales
from flowrl.reporting import jsonl
from flowrl.storage import checkpoint
from flowrl.storage.lock import LockedFile

SIGNALLED = 128  # + the signal's number: the exit code of a process that a signal ended, as in a shell

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

TAIL = 8192  # bytes at the end of a metrics file, more than a line has

WorkerStep = Literal["train", "evaluate"]


@dataclass(frozen=True)
class WorkerProcess:
    """A started process that trains or evaluates a trial. It has inherited the lock on the trial's log."""

    step: WorkerStep
    job: Job
    log: LockedFile  # locked until `close`
    process: ForkedProcess | subprocess.Popen[bytes]
    log_offset: int  # bytes of the log that were written before the process started

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    @property
    def exit_code(self) -> int:
        """Exit code of the process, which has ended: 128 + the signal's number after a signal."""
        code = self.process.returncode
        return SIGNALLED - code if code < 0 else code

    @property
    def share(self) -> float:
        """The share of its environment steps that a training has done, in [0, 1]; 1 for an evaluation."""
        return 1.0 if self.step == "evaluate" else trained_share(self.job)

    def interrupt(self, count: int) -> None:
        """Ask the process to stop, which lets a training save itself; kill it from the second call on (`count`)."""
        if count == 1:
            self.process.send_signal(signal.SIGTERM)
        elif not self.ended:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def output(self) -> bytes:
        """Return the standard output of an evaluation that has ended."""
        assert self.process.stdout is not None  # noqa: S101  for the type checker
        return self.process.stdout.read()

    def error_message(self) -> str:
        """Return the error that a process that has ended reported, or else the last line that it wrote."""
        number = self.exit_code - SIGNALLED
        if number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) or self.process.returncode < 0:
            memory = " (out of memory?)" if number == signal.SIGKILL else ""
            return f"stopped by {signal.Signals(number).name}{memory}; the same command continues what was saved"
        with self.job.log.open("rb") as log:
            log.seek(self.log_offset)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("flowrl: ") for line in lines if line.startswith("flowrl: ")]
        if self.exit_code == BUG:  # the error itself is above the request to report it
            return f"{lines[-2] if len(lines) > 1 else 'no error message'} (see {self.job.log})"
        return (errors or lines or ["no error message"])[-1]

    def close(self) -> None:
        """Close the output and the log, which releases the lock unless another process has inherited it."""
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


def trained_share(job: Job) -> float:
    """Return the share of its environment steps that a trial has done, in [0, 1], by its metrics."""
    with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        with (job.folder / jsonl.NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            last = json.loads(file.read().splitlines()[-1])
        return min(1.0, max(0.0, float(last["env_steps"]) / job.config["total_steps"]))
    return 0.0


def train(job: Job, log: LockedFile, *, resume: bool) -> WorkerProcess:
    """Start the training of a trial, from its checkpoint with `resume`, else from the beginning."""
    if resume:
        arguments = ["--resume", job.folder, *named_code.import_words(job.config), "--set"]
        arguments += [f"threads={job.config['threads']}", "--set", f"device={job.config['device']}"]
    else:
        arguments = [job.recipe or job.source, "--out", job.folder.parent, "--name", job.folder.name]
        arguments += [word for override in job.overrides for word in ("--set", override) if job.recipe is None]
        arguments += named_code.import_words({"imports": job.config["imports"]})
    return _start("train", job, log, ["train", *map(str, arguments), "--json"], output=log.file)


def evaluate(job: Job, log: LockedFile) -> WorkerProcess:
    """Start the evaluation of a trained trial under every noise; its output is a JSON document."""
    arguments = [job.folder / checkpoint.LATEST, "--noise", "random"]
    arguments += ["--noise-scale", ",".join(map(str, noise_scales(job.config)))]
    arguments += ["--episodes", job.episodes, "--seed", job.evaluation_seed]
    arguments += named_code.import_words(job.config, named_code.ACTING)
    return _start("evaluate", job, log, ["eval", *map(str, arguments), "--json"], output=None)


def _start(step: WorkerStep, job: Job, log: LockedFile, arguments: list[str], output: BinaryIO | None) -> WorkerProcess:
    log.file.write(f"$ flowrl {' '.join(arguments)}\n".encode())
    log.file.flush()
    offset = log.file.tell()
    variables = ranks.without_rank(os.environ) | dict.fromkeys(THREAD_LIMITS, str(job.config["threads"]))
    process = processes.start(arguments, variables, stderr=log.file, stdout=output)  # it inherits the lock with the log
    return WorkerProcess(step, job, log, process, offset)
