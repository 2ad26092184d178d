"""Which of the processes of one training this process is: torchrun, srun and `flowrl train --processes` say it in
environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flowrl.contracts.errors import UsageError

LAUNCHER = "FLOWRL_LAUNCHER"  # the process id of `flowrl train --processes`
LISTENER = "FLOWRL_LISTENER"  # a file descriptor: the socket that listens at MASTER_PORT, for the first process
FOLDER = "FLOWRL_FOLDER"  # a file descriptor, to which the first process writes its run folder
RESTARTS = "FLOWRL_RESTARTS"  # how often the processes were started again
RESTARTED = "FLOWRL_RESTARTED"  # the run folder of the processes before a restart
DEFAULT_PORT = 29500  # that of torchrun


@dataclass(frozen=True)
class Rank:
    """One of the processes of a training, and where the first one can be reached."""

    number: int
    processes: int
    local: int  # its number on its machine
    address: str  # of the machine of the first process
    port: int
    attempt: int  # how often the processes were started again
    said_by: str  # where the number of processes comes from, for messages: 'WORLD_SIZE=4'

    @property
    def is_first(self) -> bool:
        """Whether it writes and prints."""
        return self.number == 0


def rank_of(variables: Mapping[str, str] = os.environ) -> Rank | None:
    """Return the place that the environment `variables` give this process; None where it trains alone.

    Raises UsageError for variables that are no whole numbers, or of which one is missing.
    """
    if "RANK" in variables and "WORLD_SIZE" in variables:  # of torchrun, or our own launcher
        number, processes = _number(variables, "RANK"), _number(variables, "WORLD_SIZE")
        said_by = f"--processes {processes}" if LAUNCHER in variables else f"WORLD_SIZE={processes}"
        local = _number(variables, "LOCAL_RANK", 0)
        attempt = _number(variables, RESTARTS, _number(variables, "TORCHELASTIC_RESTART_COUNT", 0))
    elif (slurm := _slurm_processes(variables)) is not None:
        number, processes = _number(variables, "SLURM_PROCID"), _number(variables, slurm)
        said_by = f"{slurm}={processes}"
        local, attempt = _number(variables, "SLURM_LOCALID", 0), _number(variables, "SLURM_RESTART_COUNT", 0)
    else:
        return None
    if processes <= 1:
        return None
    if not 0 <= number < processes:
        raise UsageError(f"the rank {number} of this process ({said_by}): expected 0 to {processes - 1}.")
    check_power(processes, said_by)
    return Rank(number, processes, local, _address(variables), _port(variables), attempt, said_by)


def check_power(processes: int, said_by: str) -> None:
    """Raise UsageError unless the number of `processes`, which comes from `said_by`, is a power of two."""
    if processes & (processes - 1):
        near = 1 << (processes.bit_length() - 1)
        raise UsageError(
            f"{said_by}: the number of processes must be a power of two, as that of the shards is: {near} or "
            f"{2 * near}."
        )


def check_shards(processes: int, shards: int, said_by: str) -> None:
    """Raise UsageError unless so many `processes`, a number that comes from `said_by`, can share the `shards`."""
    check_power(processes, said_by)
    if processes > shards:
        raise UsageError(
            f"{said_by}: every process needs a shard of its own, and shards is {shards}. Type --set shards={processes} "
            "(which changes the results, as a seed does), or use fewer processes; --processes 1 trains alone, whatever "
            "has started the process."
        )


def without_rank(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment `variables` with which a process trains alone."""
    return {name: value for name, value in variables.items() if name not in ("RANK", "SLURM_PROCID")}


def _slurm_processes(variables: Mapping[str, str]) -> str | None:
    """Return the variable with the number of processes that srun has started together; None outside of srun.

    A batch script itself has SLURM_PROCID and SLURM_NTASKS, too, but is not in a step.
    """
    if "SLURM_PROCID" not in variables:
        return None
    if "SLURM_STEP_NUM_TASKS" in variables:
        return "SLURM_STEP_NUM_TASKS"
    in_script = "SLURM_JOB_ID" in variables and "SLURM_STEP_ID" not in variables
    return "SLURM_NTASKS" if "SLURM_NTASKS" in variables and not in_script else None


def _address(variables: Mapping[str, str]) -> str:
    """Return the address of the machine of the first process: of a SLURM job without MASTER_ADDR its first node."""
    if "MASTER_ADDR" in variables:
        return variables["MASTER_ADDR"]
    nodes = variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_JOB_NODELIST", ""))
    found = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)  # node[01-04,07],other → node, 01
    return found[1] + (found[2] or "") if found else "127.0.0.1"


def _port(variables: Mapping[str, str]) -> int:
    """Return the port of the first process: MASTER_PORT, or one that is a SLURM job's own."""
    if "MASTER_PORT" in variables:
        return _number(variables, "MASTER_PORT")
    return 20_000 + _number(variables, "SLURM_JOB_ID") % 10_000 if "SLURM_JOB_ID" in variables else DEFAULT_PORT


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(
            f"the environment variable {name} is {text!r}: expected a whole number. torchrun and srun set it; to train "
            "in one process, type --processes 1."
        ) from None
