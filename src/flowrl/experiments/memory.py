"""Memory that a configuration needs, estimated before it is allocated, and compared with what this machine has.

Where memory is short, Linux grants an allocation and kills the process when it uses it: no error could be reported.
The estimates count what grows with a key of the recipe, in bytes; they leave out what every run needs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from flowrl.config.policy_kinds import POLICY_KINDS
from flowrl.config.schema import Config
from flowrl.contracts.errors import UsageError
from flowrl.envs import factory, lookup
from flowrl.networks.critic import Critic

FLOAT = 4  # bytes of a float32
INDEX = 8  # bytes of a row number
CHUNK = 500  # bytes of a small tensor, with its Python object
WORKER = 30 * 2**20  # bytes of a worker process, beyond what it shares with the others (Pendulum-v1, Linux)
MANY = 1024  # environments, above which their size is measured
PROBE = (8, 72)  # environments made to measure one: the first ones also load packages and models


@dataclass(frozen=True)
class MemoryShare:
    """A part of the memory, and the key of the recipe that it grows with."""

    what: str
    bytes: float
    key: str
    value: str  # of the key
    scaled: Callable[[float], str]  # factor on these bytes -> the value that takes so much


def proportional(what: str, size: float, key: str, value: int) -> MemoryShare:
    """Return the share of a key, a whole number, to which its `size` in bytes is proportional."""
    return MemoryShare(what, size, key, str(value), lambda factor: str(max(1, int(value * factor))))


def check(subject: str, shares: Sequence[MemoryShare]) -> None:
    """Raise UsageError, with the key of the largest share and a value that fits, when `shares` do not fit here."""
    needed, there = sum(share.bytes for share in shares), available()
    if needed <= there:
        return
    totals = {share.key: sum(each.bytes for each in shares if each.key == share.key) for share in shares}
    key = max(totals, key=lambda name: totals[name])
    largest = max((share for share in shares if share.key == key), key=lambda share: share.bytes)
    room = 0.9 * max(there - (needed - totals[key]), there / 2)  # the shares are not exactly proportional
    raise UsageError(
        f"{largest.key}={largest.value}: {subject} would need about {amount(needed)} of memory, "
        f"{amount(largest.bytes)} of it for {largest.what}, and {amount(there)} are available here. "
        f"Type --set {largest.key}={largest.scaled(room / totals[key])} or less."
    )


def check_training(config: Config, observation_size: int, action_size: int, processes: int = 1) -> None:
    """Raise UsageError when the networks, the rollout or the update of a run do not fit into the memory; with several
    `processes` these are of the part that each of them has."""
    sizes = observation_size, action_size
    check("the training", [*networks(config, *sizes), *update(config, *sizes, processes)])


def networks(config: Config, observation_size: int, action_size: int) -> list[MemoryShare]:
    """Estimate actor and critic: weights, gradients, Adam's two moments, the moving average, and a checkpoint of it
    all, which is serialised in memory."""
    learner = config.learner
    average = 1 if learner.ema_decay is not None else 0
    with torch.device("meta"):  # where tensors have shapes and no memory
        critic = Critic(observation_size, learner.critic)
    return [
        actor(config, observation_size, action_size, copies=7 + 2 * average),
        _weights("the critic", critic, "learner.critic.hidden", learner.critic.hidden, copies=7),
    ]


def check_policy(config: Config, observation_size: int, action_size: int) -> None:
    """Raise UsageError when the weights of a policy that is to act do not fit into the memory."""
    check("the policy", [actor(config, observation_size, action_size, copies=2)])


def actor(config: Config, observation_size: int, action_size: int, copies: int) -> MemoryShare:
    """Estimate `copies` of the policy's network."""
    with torch.device("meta"):
        network = POLICY_KINDS[config.policy.kind].network(observation_size, action_size, config.policy, None)
    return _weights("the policy's network", network, "policy.hidden", hidden_widths(config), copies)


def hidden_widths(config: Config) -> Sequence[int]:
    """Return the widths of the policy's hidden layers; none for a kind without such."""
    widths: Sequence[int] = getattr(config.policy, "hidden", ())
    return widths


def _weights(what: str, network: nn.Module, key: str, hidden: Sequence[int], copies: int) -> MemoryShare:
    """Estimate `copies` of a network whose hidden layers have the widths `hidden`, the value of `key`."""
    sizes = [weight.numel() for weight in network.parameters()] or [0]
    # The initialisation of a layer needs three more of its size for a moment.
    size = FLOAT * (copies * sum(sizes) + 3 * max(sizes))

    def scaled(factor: float) -> str:
        return f"[{','.join(str(max(1, int(width * min(1.0, factor**0.5)))) for width in hidden)}]"

    return MemoryShare(what, size, key, f"[{','.join(map(str, hidden))}]", scaled)


def update(config: Config, observation_size: int, action_size: int, processes: int = 1) -> list[MemoryShare]:
    """Estimate a rollout and the update on it: transitions, probes, row numbers, and activations of a microbatch."""
    learner, rows = config.learner, config.env.count * config.rollout.steps // processes
    draws_probes = ("learner", "probes") not in POLICY_KINDS[config.policy.kind].unused
    probes = learner.probes.count if draws_probes else 1
    steps, count = config.rollout.steps, config.env.count
    longer = ("rollout.steps", steps) if steps > count else ("env.count", count)
    most_probes, most_epochs = ("learner.probes.count", probes), ("learner.epochs", learner.epochs)
    transitions = FLOAT * rows * (5 * observation_size + 2 * action_size + 12)
    pairs = FLOAT * rows * probes * (action_size + 4)
    minibatches = min(learner.minibatches, rows)
    numbers = learner.epochs * (INDEX * rows + CHUNK * max(minibatches, rows // learner.microbatch))
    part = min(learner.microbatch, -(-rows // minibatches))
    hidden = sum(hidden_widths(config))
    activations = FLOAT * part * (probes * (3 * hidden + 6 * action_size + 40) + 3 * sum(learner.critic.hidden))
    return [
        proportional("the transitions of a rollout", transitions, *longer),
        proportional("(time, noise) pairs of all actions of a rollout", pairs, *_larger(most_probes, longer)),
        proportional("the order of the rows in every epoch", numbers, *_larger(most_epochs, longer)),
        proportional(
            "the activations of a microbatch", activations, *_larger(most_probes, ("learner.microbatch", part))
        ),
    ]


def _larger(one: tuple[str, int], other: tuple[str, int]) -> tuple[str, int]:
    """Return the (key, value) with the larger value: what grows with a product is blamed on its largest factor."""
    return max(one, other, key=lambda pair: pair[1])


def check_environments(config: Config, processes: int = 1) -> None:
    """Raise UsageError when the environments of a run, or those of each of its `processes`, do not fit into the memory,
    or worker processes into a limit.

    Where there are more than a thousand, some are made to measure them.
    """
    settings = config.env
    way = factory.way(lookup.find(settings.id), settings, None)
    if way == "async":
        most, reason = process_limit()
        if settings.count > most:
            raise UsageError(
                f"env.count={settings.count}: with env.mode=async every environment has a process, and {reason} only "
                f"{most:,} more here. Type --set env.count={max(1, most)} or less, or --set env.mode=sync."
            )
        size = WORKER * settings.count / processes
        check("the training", [proportional("worker processes", size, "env.count", settings.count)])
    elif factory.engine_of(lookup.find(settings.id), settings, way, settings.count) == "warp":
        return  # whose memory is mostly the GPU's, and is allocated before the first step
    elif settings.count > MANY and sys.platform == "linux":
        size = measured(config) * settings.count / processes
        check("the training", [proportional("the environments", size, "env.count", settings.count)])


def measured(config: Config) -> float:
    """Measure the bytes of one environment, by making some."""
    sizes = []
    for count in PROBE:
        before = resident()
        env = factory.make(config.env, count=count)
        sizes.append(resident() - before)
        env.close()
    return max(0.0, sizes[1] / PROBE[1])


def check_threads(written: str, threads: int) -> None:
    """Raise UsageError for more threads than this process may start: native code would end the process.

    `written` is what stands before the number where the user wrote it: 'threads=' or '--threads '.
    """
    most, reason = process_limit()
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = 8 * 2**20 if stack == resource.RLIM_INFINITY else stack
    address_space = _address_space_left()
    if address_space < threads * stack:
        most, reason = int(address_space / 2 / stack), "the limit of its address space (ulimit -v) leaves room for"
    if threads > max(1, most):
        fitting = max(1, min(most, os.cpu_count() or 1))
        fix = written if written.startswith("--") else f"--set {written}"
        raise UsageError(f"{written}{threads}: {reason} only {most:,} more here. Type {fix}{fitting}.")


def process_limit() -> tuple[int, str]:
    """Return how many processes and threads may still be started, and a clause that says why."""
    limits = [(2**31, "the system allows")]
    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:  # root has no such limit
        limits.append((soft, "the limit of a user's processes (ulimit -u) allows"))
    for folder in _cgroups("pids"):
        most, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None:
            reason = "the limit of this container or job (cgroup pids.max) allows"
            limits.append((max(0, int(most - (used or 0))), reason))
    return min(limits)


def available() -> float:
    """Return the bytes of memory that this process can still use: the least of what the machine has free, and what
    the limits of its container and of its address space leave."""
    sizes = [_address_space_left(), float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    with suppress(OSError, ValueError, IndexError):
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
        sizes.append(1024.0 * int(line.split()[1]))
    for folder in _cgroups("memory"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None:
                sizes.append(max(0.0, most - used + _cache(folder)))
    return min(sizes)


def resident() -> int:
    """Return the bytes of memory that this process holds (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def amount(size: float) -> str:
    """'1.5 GB', '300 MB'"""
    return f"{size / 1e9:,.3g} GB" if size >= 1e9 else f"{size / 1e6:,.3g} MB"


def _address_space_left() -> float:
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return float("inf")
    used = 0
    with suppress(OSError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return max(0.0, float(soft - used))


def _cgroups(controller: str) -> list[Path]:
    """Return the folders of this process's control groups for `controller`, versions 2 and 1, and of those above."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, place = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            root = Path("/sys/fs/cgroup", names and controller)
            path = root / place.lstrip("/")
            found += [folder for folder in (path, *path.parents) if folder == root or root in folder.parents]
    return found


def _number(path: Path) -> float | None:
    """Return the number in the file; None where there is none, such as 'max'."""
    with suppress(OSError, ValueError):
        return float(path.read_text())
    return None


def _cache(folder: Path) -> float:
    """Return the bytes of a control group that the kernel can take back: file contents that were not used lately."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return float(value)
    return 0.0
