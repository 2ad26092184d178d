"""The measurement of samplers, on networks of standard sizes or a checkpoint's policy, as one document."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowrl import __version__
from flowrl.config import fitted_file
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.contracts.protocols import Sampler
from flowrl.deployment import singular_end
from flowrl.deployment.backends import Backend, Numbers
from flowrl.deployment.folding import fold
from flowrl.evaluation import pareto
from flowrl.evaluation.latency import USUAL, Backends, Compute, Effort, FlowInputs, Key, Row, bench, in_torch
from flowrl.evaluation.machine import LoadMonitor, machine
from flowrl.experiments import deployable, sampler_choice, serve
from flowrl.experiments.build import load_policy
from flowrl.experiments.evaluate import EvalRequest, open_checkpoint
from flowrl.experiments.latency_report import P99, short, tables, titled
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.noise import Noise
from flowrl.samplers import registry
from flowrl.storage import checkpoint
from flowrl.storage.files import write_text

# (observation, action, hidden) of networks as used in practice. S: the FPO paper's actor, for HalfCheetah;
# M: Humanoid-v5.
STANDARD_SIZES = {"S": (17, 6, (32, 32, 32, 32)), "M": (376, 17, (256, 256, 256))}

# Random weights with a small output are nearly straight flows, on which one Euler step has almost no error.
# With this scale Euler 10 has the error that it has on trained policies: about a tenth of the actions' spread.
STANDARD_OUTPUT_SCALE = 24.0

DOCUMENT = "latency.json"
REFERENCE = ("dopri5", {"rtol": 1e-7, "atol": 1e-7, "max_nfe": 100_000})

GATED = Effort(enough=5000, seconds=5.0, least=1000)  # fifty or ten calls above the 99th percentile
ATTEMPTS = 3  # at most, on a busy machine: other programs only add to the time of a call


@dataclass(frozen=True)
class BenchmarkedPolicy:
    """A flow to be timed, and the sampler of its training, if it was trained."""

    name: str
    flow: FlowInputs
    compute: Callable[[str, Key, Sampler], Compute]  # by backend
    own: tuple[Key, Sampler] | None = None
    digest: str = ""  # of the content of its checkpoint
    config: Mapping[str, Any] = field(default_factory=dict)  # of its run, as plain values

    def timed(self, samplers: Mapping[Key, Sampler]) -> dict[Key, Sampler]:
        """Return `samplers` and that of the training."""
        return dict(samplers) | dict([self.own] if self.own else [])

    def backends(self, names: Sequence[str]) -> Backends:
        """Return the backends called `names`."""
        return {name: functools.partial(self.compute, name) for name in names}


def standard(seed: int) -> list[BenchmarkedPolicy]:
    """Return networks of the standard sizes with random weights."""
    policies = []
    for name, (observation_size, action_size, hidden) in STANDARD_SIZES.items():
        torch.manual_seed(seed)
        settings = NetworkSettings(hidden=hidden, activation="silu", output_scale=STANDARD_OUTPUT_SCALE)
        field = FlowNetwork(observation_size, action_size, settings)
        flow = FlowInputs(field.requires_grad_(False), observation_size, action_size)
        policies.append(BenchmarkedPolicy(name, flow, functools.partial(_without_normaliser, flow, settings)))
    return policies


def _without_normaliser(
    flow: FlowInputs, settings: NetworkSettings, backend: str, key: Key, sampler: Sampler
) -> Compute:
    """Return the function that integrates an untrained field in `backend`: normaliser and bounds it has none."""
    if backend == "torch":
        return in_torch(flow.field)[backend](key, sampler)
    whole = FlowPolicySettings(**settings.model_dump())
    normaliser = Normaliser(flow.observation_size, enabled=False)
    noise = Noise(flow.action_size, "random", 0)
    policy = FlowPolicy(flow.field, normaliser, noise, whole, sampler, training=False, sampler_name=key[0])
    return _computed(serve.unverified(fold(policy), backend), flow.action_size)


def _computed(backend: Backend, action_size: int) -> Compute:
    """Return the backend with arrays of its own, into which observations and noise are copied, as in a control loop."""
    arrays: dict[int, tuple[Numbers, Numbers, Numbers]] = {}

    def compute(obs: Numbers, noise: Numbers) -> object:
        if len(obs) not in arrays:
            arrays[len(obs)] = obs.copy(), noise.copy(), np.zeros((len(obs), action_size), dtype=np.float32)
        own_obs, own_noise, out = arrays[len(obs)]
        own_obs[...], own_noise[...] = obs, noise
        return backend(own_obs, own_noise, out)

    return compute


def trained(path: Path) -> BenchmarkedPolicy:
    """Load the policy in a checkpoint; raises CheckpointError, or UsageError when it has no flow, or when its sampler
    is code that the user has not named."""
    opened = open_checkpoint(path)
    config = opened.config
    loaded = load_policy(opened.path, opened.content, config)
    field, own = loaded.policy.field, loaded.policy.sampler
    if field is None or own is None:
        raise UsageError(
            f"{opened.path} holds a {config.policy.kind} policy: it has no flow to time. "
            "Name a checkpoint of fpo or fpo++."
        )
    run = opened.path.resolve().parent.name
    name = run if opened.path.name == checkpoint.LATEST else f"{run}-{opened.path.stem}"
    key = (config.sampler.name, getattr(own, "steps", None))
    flow = FlowInputs(field, loaded.observation_size, loaded.action_size)

    def compute(backend: str, asked: Key, sampler: Sampler) -> Compute:
        request = EvalRequest() if asked == key else EvalRequest(sampler=asked[0], steps=asked[1])
        made = deployable.deployable(opened, request)
        return _computed(serve.backend_of(made, backend), flow.action_size)

    return BenchmarkedPolicy(name, flow, compute, (key, own), opened.digest, config.model_dump(mode="json"))


def candidates(names: Sequence[str], step_counts: Sequence[int]) -> dict[Key, Sampler]:
    """Make the samplers called `names`, which the user has typed, or all that are installed.

    Those that take steps are made with each number of steps, or with their own as in euler:10, the others once. Raises
    UsageError for an unknown name.
    """
    made: dict[Key, Sampler] = {}
    for text in names or registry.general():
        name, steps = sampler_choice.parse(text)
        user_code.name_code(name)
        if registry.is_file(name):
            made[name, None] = registry.make(*fitted_file.named(name))
            continue
        if steps is not None:
            made[name, steps] = registry.make(name, {"steps": steps})
            continue
        try:
            made |= {(name, count): registry.make(name, {"steps": count}) for count in step_counts}
        except UsageError:  # no option `steps`; or no such sampler, which raises again
            made[name, None] = registry.make(name)
    return made


def mismatches(names: Sequence[str], policy: BenchmarkedPolicy) -> list[str]:
    """Return a sentence for each of the samplers `names` that was fitted to another checkpoint than the policy's."""
    files = [fitted_file.read(name) for name in names if registry.is_file(name)]
    return [text for file in files if policy.digest and (text := file.mismatch(policy.digest))]


@dataclass(frozen=True)
class Gate:
    """The most that the 99th percentile of a call may be, and how the user said so."""

    most_us: float
    said: str  # '--hz 1000 (half a period is 500 µs)'

    @classmethod
    def of(cls, most_us: float | None, hz: float | None) -> Gate | None:
        """Return the stricter of both, or None without any."""
        gates = [] if most_us is None else [cls(most_us, f"--max-p99-us {most_us:g}")]
        if hz is not None:
            gates.append(cls(5e5 / hz, f"--hz {hz:g}, half of whose period is {5e5 / hz:g} µs"))
        return min(gates, key=lambda gate: gate.most_us, default=None)

    def missed(self, document: dict[str, Any]) -> list[str]:
        """Return what is slower, as 'euler:10 in c: p99 612 µs'."""
        return [
            f"{titled(row)} in {row['backend']}: p99 {short(row[P99])} µs"
            for network in document["networks"]
            for row in network["rows"]
            if row[P99] > self.most_us
        ]


def run(
    policies: Sequence[BenchmarkedPolicy],
    samplers: Mapping[Key, Sampler],
    batches: Sequence[int],
    seed: int,
    *,
    backends: Sequence[str] = ("torch",),
    gate: Gate | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time `samplers` and its own on every policy in every backend; returns the result as latency.json holds it.

    Behind a `gate` every row gets at least a thousand calls; on a machine that was busy the measurement is repeated
    while rows are slower than the gate, at most three times in all, and the times of a row are those of its least p99.
    """
    for policy in policies:
        for (name, steps), sampler in samplers.items():
            own = None if policy.own is None else policy.own[1]
            asked = sampler_choice.text_of(name, steps)
            if doubt := singular_end.warning(asked, sampler, policy.flow.field, own):
                report(doubt)
    document: dict[str, Any] = {}
    for attempt in range(1, ATTEMPTS + 1):
        monitor = LoadMonitor()
        networks = []
        for policy in policies:
            rows = bench(
                policy.flow,
                policy.timed(samplers),
                batches,
                seed,
                reference=registry.make(*REFERENCE),
                backends=policy.backends(backends),
                effort=USUAL if gate is None else GATED,
                report=lambda line, name=policy.name: report(f"{name}: {line}"),  # type: ignore[misc]
            )
            networks.append(_network(policy, rows))
        shares = [row["cpu_share"] for network in networks for row in network["rows"]]
        found = {
            "flowrl": __version__,
            **asdict(monitor.verdict(shares)),
            "machine": asdict(machine()),
            "seed": seed,
            "networks": networks,
        }
        _refuse_unmeasured(found, policies, samplers, batches, backends, gated=gate is not None)
        document = _with_least(document, found) if document else found
        if gate is None or found["good"] or attempt == ATTEMPTS or not gate.missed(document):
            break
        report(f"{found['reason']}: the measurement is repeated")
    return document


def _refuse_unmeasured(
    document: dict[str, Any],
    policies: Sequence[BenchmarkedPolicy],
    samplers: Mapping[Key, Sampler],
    batches: Sequence[int],
    backends: Sequence[str],
    *,
    gated: bool,
) -> None:
    """Raise UsageError where nothing was measured, or, behind a gate, not all that was asked for."""
    for policy, network in zip(policies, document["networks"], strict=True):
        there = {((row["sampler"], row["steps"]), row["backend"], row["batch"]) for row in network["rows"]}
        asked = [(key, backend, batch) for key in policy.timed(samplers) for backend in backends for batch in batches]
        missing = [each for each in asked if each not in there]
        if missing and (gated or not there):
            (name, steps), backend, _ = missing[0]
            raise UsageError(
                f"{sampler_choice.text_of(name, steps)} was not measured in {backend} (the reason is above), so "
                "nothing can be said of it. Choose another --sampler or --backends torch."
            )


def _network(policy: BenchmarkedPolicy, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the part of the document on one policy."""
    return {
        "network": policy.name,
        "observation_size": policy.flow.observation_size,
        "action_size": policy.flow.action_size,
        "own_sampler": policy.own[0] if policy.own else None,
        "rows": [_as_document(row) for row in rows],
    }


def _with_least(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the later document with the rows of the least p99 of both."""
    least: dict[tuple[Any, ...], dict[str, Any]] = {}
    for document in (before, after):
        for network in document["networks"]:
            for row in network["rows"]:
                key = (network["network"], *(row[name] for name in ("sampler", "steps", "backend", "batch")))
                if key not in least or row[P99] < least[key][P99]:
                    least[key] = row
    networks = []
    for network in after["networks"]:
        rows = [dict(row) for key, row in least.items() if key[0] == network["network"]]
        for batch in {row["batch"] for row in rows}:
            of_batch = [row for row in rows if row["batch"] == batch]
            errors = [math.inf if row["endpoint_error"] is None else row["endpoint_error"] for row in of_batch]
            marks = pareto.front([row["p50_us"] for row in of_batch], errors, better="lower")
            for row, mark in zip(of_batch, marks, strict=True):
                row["pareto"] = bool(mark)
        networks.append(network | {"rows": rows})
    return after | {"networks": networks}


def _as_document(row: Row) -> dict[str, Any]:
    error = row.endpoint_error if math.isfinite(row.endpoint_error) else None
    return asdict(row) | {"hz": row.hz, "endpoint_error": error}


def save(document: dict[str, Any], out: Path) -> list[Path]:
    """Write latency.json and the figures into the folder `out`; returns their paths."""
    file = out / DOCUMENT
    write_text(file, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return [file, *_draw(document, out)]


def _draw(document: dict[str, Any], out: Path) -> list[Path]:
    """Draw a figure per network, batch size and backend: endpoint error over NFE and over time per action."""
    from flowrl.reporting.plots import pareto_front, style

    files = []
    for network, batch, rows in tables(document):
        name = network["network"]
        warning = "" if document["good"] else "not good figures: busy machine"
        for backend in dict.fromkeys(row["backend"] for row in rows):
            choices = [
                pareto_front.Choice(row["sampler"], row["nfe"], row["p50_us"] / batch, row["endpoint_error"])
                for row in rows
                if row["endpoint_error"] is not None and row["backend"] == backend
            ]
            title = f"{name}, {batch} at a time, {backend}"
            drawing = pareto_front.draw(choices, "endpoint error", "lower", title=title, warning=warning)
            files.append(out / f"latency-{name}-batch{batch}{'' if backend == 'torch' else f'-{backend}'}.png")
            style.save(drawing, files[-1])
    return files
