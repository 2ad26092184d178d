"""Several processes of one training: they meet, share what the first one reads, and end together.

Whatever ends one of them ends all: who fails leaves its reason in the store where they have met, and the others, whose
next exchange with it fails, look there. The first process prints it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from flowrl.config.schema import Config
from flowrl.contracts import user_code
from flowrl.contracts.errors import BUG, FlowrlError, ProcessLost, ReportedElsewhere, Stopped, in_one_line, stop_behind
from flowrl.contracts.notices import say
from flowrl.experiments import ranks
from flowrl.experiments.ranks import Rank
from flowrl.experiments.train_plan import TrainPlan
from flowrl.storage import checkpoint
from flowrl.training.shards import Shards

MEETING_S = 600.0  # the longest time between the first process and the last one
PATIENCE_S = 10.0  # after which the missing ones are named
ANSWER = timedelta(minutes=30)  # the longest wait for another process, which may collect or evaluate meanwhile
REASON_S = 2.0  # the longest wait for the reason of a process whose connection is lost
POLL_S = 0.05
PR_SET_PDEATHSIG = 1  # of prctl(2), Linux: the signal to this process when its parent ends


class Processes:
    """The processes of a training that have met, seen from one of them."""

    def __init__(self, rank: Rank) -> None:
        """Meet the others; raises ProcessLost when one of them does not come."""
        self.rank = rank
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun keeps its store over restarts
        self._lasting = _connect(rank, hosting=rank.is_first and not agent)
        # Processes that are started again must not find the addresses of those before them.
        self._store = PrefixStore(f"flowrl attempt {rank.attempt}", self._lasting)
        self._keeps_folder = agent
        self._meet()
        dist.init_process_group("gloo", store=self._store, rank=rank.number, world_size=rank.processes, timeout=ANSWER)
        self._link = Shards(rank.processes, rank.number, rank.processes)

    def _meet(self) -> None:
        """Wait until all processes are here: in steps, between which a signal can end it."""
        begun, named = time.monotonic(), False
        self._store.set(f"here {self.rank.number}", "")
        while missing := [n for n in range(self.rank.processes) if not self._store.check([f"here {n}"])]:
            waited = time.monotonic() - begun
            if waited > MEETING_S:
                raise ProcessLost(
                    f"{_listed(missing)} of {self.rank.processes} did not come to {self.rank.address}:{self.rank.port} "
                    f"within {MEETING_S:g} s."
                )
            if waited > PATIENCE_S and not named:
                named = True
                say(f"waiting for {_listed(missing)} of {self.rank.processes} at {self.rank.address}:{self.rank.port}")
            time.sleep(POLL_S)

    def shards(self, config: Config) -> Shards:
        """Return the shards of a run of `config` that this process holds.

        Raises UsageError where there are more processes than shards.
        """
        ranks.check_shards(self.rank.processes, config.shards, self.rank.said_by)
        return Shards(config.shards, self.rank.number, self.rank.processes)

    def plan(self, make: Callable[[], TrainPlan]) -> TrainPlan:
        """Return the plan that `make` makes in the first process, in all of them."""
        if self.rank.is_first:
            made = make()
            code = user_code.named()
            self._link.from_first(
                {
                    "config": made.config.model_dump(mode="json"),
                    "content": made.content,
                    "sources": list(code.sources),
                    "imported": list(code.imported),
                }
            )
            return made
        found: Any = self._link.from_first(None)
        user_code.adopt(user_code.NamedCode(tuple(found["sources"]), tuple(found["imported"])))
        return TrainPlan(Config.model_validate(found["config"]), "", found["content"])

    def began(self, folder: Path) -> None:
        """Record the run folder, with which the processes continue after a restart."""
        if (descriptor := os.environ.get(ranks.FOLDER)) is not None:
            with suppress(OSError):
                os.write(int(descriptor), str(folder).encode())
        elif self._keeps_folder:
            self._lasting.set("flowrl folder", str(folder))

    def folder_before(self, out: Path, name: str | None) -> Path | None:
        """Return the run folder that the processes before a restart have saved, or None."""
        if not self.rank.attempt:
            return None
        found = os.environ.get(ranks.RESTARTED) or (str(out / name) if name else None)
        if found is None and self._keeps_folder and self._lasting.check(["flowrl folder"]):
            found = self._lasting.get("flowrl folder").decode()
        return Path(found) if found and (Path(found) / checkpoint.LATEST).is_file() else None

    def leave_reason(self, error: BaseException) -> bool:
        """Leave for the others why this process ends; returns false where the first one cannot be reached."""
        stopped = stop_behind(error)
        code = stopped.exit_code if stopped else getattr(error, "exit_code", BUG)
        text = str(error) if isinstance(error, FlowrlError) else in_one_line(error)
        reason = json.dumps({"rank": self.rank.number, "code": code, "text": text})
        with suppress(RuntimeError):
            self._store.compare_set("reason", "", reason)
            return True
        return False

    def reason(self) -> dict[str, Any] | None:
        """Return the reason that another process has left, or None."""
        with suppress(RuntimeError):
            give_up = time.monotonic() + REASON_S
            while time.monotonic() < give_up:
                if self._store.check(["reason"]):
                    found: dict[str, Any] = json.loads(self._store.get("reason"))
                    return found
                time.sleep(POLL_S)
        return None

    def close(self) -> None:
        """Close the connections."""
        with suppress(RuntimeError):
            dist.destroy_process_group()


@contextmanager
def joined(rank: Rank) -> Iterator[Processes]:
    """Meet the other processes of a training, and end with them.

    In the first process an error that another one had is raised as a ProcessLost with its text and exit code. The
    others raise ReportedElsewhere for an error of their own, which the first one prints, and for one of another.
    """
    _end_with_launcher()
    if not rank.is_first:
        os.dup2(2, 1)  # results are printed by the first process alone
    processes: Processes | None = None
    try:
        processes = Processes(rank)
        yield processes
    except ProcessLost as error:
        raise _explained(error, rank, processes) from error
    except BaseException as error:
        known = isinstance(error, FlowrlError) or stop_behind(error) is not None
        reached = processes is not None and processes.leave_reason(error)
        if rank.is_first or not reached or not known:
            raise
        stopped = stop_behind(error)
        code = stopped.exit_code if stopped else getattr(error, "exit_code", BUG)
        raise ReportedElsewhere(code) from error
    finally:
        if processes is not None:
            processes.close()


def _explained(lost: ProcessLost, rank: Rank, processes: Processes | None) -> BaseException:
    """Return what to raise where an exchange with another process has failed."""
    reason = None if processes is None else processes.reason()
    if reason is not None and not rank.is_first:
        return ReportedElsewhere(reason["code"])
    if reason is not None:
        if reason["code"] > 128:
            return Stopped(signal.Signals(reason["code"] - 128))
        return ProcessLost(f"rank {reason['rank']} of {rank.processes} processes: {reason['text']}", reason["code"])
    if processes is not None and (not rank.is_first or ranks.LAUNCHER in os.environ):
        return ReportedElsewhere(lost.exit_code)  # the launcher knows how the other one has ended
    return lost


def _connect(rank: Rank, *, hosting: bool) -> Any:
    """Connect to the store at the address of the first process, which is `hosting` it."""
    options: dict[str, Any] = {"wait_for_workers": False, "is_master": hosting, "world_size": rank.processes}
    if hosting and ranks.LISTENER in os.environ:
        options["master_listen_fd"] = int(os.environ[ranks.LISTENER])
    give_up = time.monotonic() + MEETING_S
    while True:
        try:
            return TCPStore(rank.address, rank.port, timeout=timedelta(seconds=2), **options)
        except RuntimeError as error:
            if hosting or time.monotonic() > give_up:
                place = f"{rank.address}:{rank.port} (MASTER_ADDR, MASTER_PORT)"
                what = "cannot listen at" if hosting else "finds nothing at"
                reason = str(error).splitlines()[0][:200]
                raise ProcessLost(
                    f"rank {rank.number} of {rank.processes} processes {what} {place}: {reason} Is it the address of "
                    "the machine of rank 0, with a free port?"
                ) from error
        time.sleep(POLL_S)


def _end_with_launcher() -> None:
    """Let the end of `flowrl train --processes` stop this process as SIGTERM does: it saves."""
    if (launcher := os.environ.get(ranks.LAUNCHER)) is None or sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(launcher):
        raise Stopped(signal.SIGTERM)


def use_own_gpu(config: Config, rank: Rank) -> None:
    """Let a training on GPUs use that with the process's number on its machine."""
    if config.device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(rank.local % torch.cuda.device_count())


def _listed(numbers: list[int]) -> str:
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:8]))}"
