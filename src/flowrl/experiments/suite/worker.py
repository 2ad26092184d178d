"""A stage of a cell: the process of flowrl that trains it, or the one that evaluates what was trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Literal

from flowrl.contracts.errors import BUG
from flowrl.experiments.suite.plan import Job
from flowrl.experiments.suite.trial import MODES
from flowrl.storage import checkpoint

SIGNALLED = 128  # + the signal's number: the exit code of what a signal ended, as a shell has it

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

StageName = Literal["train", "evaluate"]


@dataclass(frozen=True)
class Stage:
    """A process at work on a cell, from its start on. It has inherited the lock on the cell's log."""

    name: StageName
    job: Job
    process: subprocess.Popen[bytes]
    log_offset: int  # bytes, where in the log its own words begin

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def exit_code(self) -> int:
        """Of a process that has ended."""
        code = self.process.returncode
        return SIGNALLED - code if code < 0 else code

    def interrupt(self, count: int) -> None:
        """Stop the process for the `count`-th time: at the first it saves."""
        with suppress(ProcessLookupError):
            if count > 1:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.send_signal(signal.SIGINT if self.name == "train" else signal.SIGTERM)

    def output(self) -> bytes:
        """What an evaluation that has ended wrote to its standard output."""
        return self.process.communicate()[0]

    def last_words(self) -> str:
        """The error that a process that has ended told, or the last line that it wrote."""
        number = self.exit_code - SIGNALLED
        if number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM) or self.process.returncode < 0:
            memory = " (out of memory?)" if number == signal.SIGKILL else ""
            return f"stopped by {signal.Signals(number).name}{memory}; what was saved goes on when the suite does"
        with self.job.log.open("rb") as log:
            log.seek(self.log_offset)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("flowrl: ") for line in lines if line.startswith("flowrl: ")]
        if self.exit_code == BUG:  # the error itself stands above the plea to report it
            return f"{lines[-2] if len(lines) > 1 else 'no word of why'} (see {self.job.log})"
        return (errors or lines or ["it said nothing"])[-1]

    def close(self) -> None:
        """Let go of the output; the log stays with who opened it."""
        if self.process.stdout is not None:
            self.process.stdout.close()


def train(job: Job, log: BinaryIO, *, resume: bool) -> Stage:
    """Train the cell to its end, from its checkpoint on or from the beginning."""
    if resume:
        arguments = ["--resume", job.folder, *_sampler_file(job, "--set", "sampler.name="), "--set"]
        arguments += [f"threads={job.config['threads']}", "--set", f"device={job.config['device']}"]
    else:
        arguments = [job.source, "--out", job.folder.parent, "--name", job.folder.name]
        arguments += [word for setting in job.settings for word in ("--set", setting)]
    return _start("train", job, log, ["train", *map(str, arguments), "--json"], output=log)


def evaluate(job: Job, log: BinaryIO) -> Stage:
    """Evaluate what was trained, under every noise mode; the scores are its output, in JSON."""
    arguments = [job.folder / checkpoint.LATEST, "--noise", ",".join(MODES)]
    arguments += ["--episodes", job.episodes, "--seed", job.evaluation_seed]
    arguments += _sampler_file(job, "--sampler", "")
    return _start("evaluate", job, log, ["eval", *map(str, arguments), "--json"], output=subprocess.PIPE)


def _start(name: StageName, job: Job, log: BinaryIO, arguments: list[str], output: BinaryIO | int) -> Stage:
    log.write(f"$ flowrl {' '.join(arguments)}\n".encode())
    log.flush()
    offset = log.tell()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "flowrl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=log,  # and with it the lock
        env=os.environ | dict.fromkeys(THREAD_LIMITS, str(job.config["threads"])),
        start_new_session=True,  # Ctrl-C reaches us alone: a second one would make it quit without saving
    )
    return Stage(name, job, process, offset)


def _sampler_file(job: Job, option: str, prefix: str) -> list[str]:
    """The sampler named once more where it is a Python file: a checkpoint alone is not enough to run that."""
    name = job.config["sampler"]["name"]
    return [option, f"{prefix}{name}"] if ".py:" in name else []
