"""Ways to compute one action, timed in turns in one process: torchdiffeq, PyTorch, ONNX Runtime and C.

    python benchmarks/latency.py                      a table per network, and the bars
    python benchmarks/latency.py --out docs/results   also latency.json and latency.md there

Batch 1, ten Euler steps, one thread, random weights, on networks of four sizes. `plain loop` is what one writes first:
at each step the network on (observation, point, time features), without anything computed beforehand. `Gaussian MLP`
is one evaluation of a network of the same hidden layers, in eager PyTorch. Run it on a quiet machine: the last line
says whether it was one. Exits with 7 where a bar is missed on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from flowrl.deployment import backends, c_compiler, c_source, onnx_model
from flowrl.deployment.folding import fold
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.serving import DeployedPolicy
from flowrl.evaluation.latency import Effort, Timing, generate, race
from flowrl.evaluation.machine import LoadMonitor, machine
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork, to_velocity
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.noise import Noise
from flowrl.samplers import registry

STEPS = 10
SIZES: dict[str, dict[str, Any]] = {
    "4x32": {"observation": 17, "action": 6, "hidden": (32,) * 4, "parameterisation": "u"},
    "cheetah": {"observation": 17, "action": 6, "hidden": (64,) * 3, "parameterisation": "u"},
    "3x256": {"observation": 376, "action": 17, "hidden": (256,) * 3, "parameterisation": "u"},
    "humanoid": {"observation": 667, "action": 28, "hidden": (256,) * 2, "parameterisation": "data"},
}
PLAIN, GAUSSIAN, NATIVE, PORTABLE = "plain loop", "Gaussian MLP", "C, -O3 native", "C, -O2 portable"
TORCH, ONNX = "flowrl in torch", "ONNX Runtime"
BARS: dict[str, tuple[float, ...]] = {  # least factor over the plain loop, by the sizes above
    TORCH: (2.3, 2.3, 2.3, 2.3),
    ONNX: (9, 9, 6, 6),
    NATIVE: (150, 100, 15, 20),
    PORTABLE: (60, 30, 5, 7),
}
SHARE_OF_GAUSSIAN = (0.1, 0.15, 1.0, 1.0)  # most of the Gaussian's time that native C takes
PORTABLE_FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared")
EFFORT = Effort(enough=600, seconds=2.0, least=60)
Call = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for latency.json and latency.md")
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"of {', '.join(SIZES)}")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    monitor = LoadMonitor()
    results: dict[str, dict[str, Timing]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sizes.split(","):
            calls = candidates(Path(folder), name, SIZES[name])
            timings = race(list(calls.values()), EFFORT, warmup=10, rounds=options.rounds)
            results[name] = dict(zip(calls, timings, strict=True))
            print(f"{name}: measured", file=sys.stderr)
    shares = [timing.cpu_share for of_size in results.values() for timing in of_size.values()]
    verdict = monitor.verdict(shares)
    page = "\n".join([table(results), "", bars(results), "", conditions(verdict)])
    print(page)
    if options.out is not None:
        document = {
            "steps": STEPS,
            "machine": asdict(machine()),
            "compiler": c_compiler.version(),
            "verdict": asdict(verdict),
            "results": {name: {way: asdict(t) for way, t in of_size.items()} for name, of_size in results.items()},
        }
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "latency.json").write_text(json.dumps(document, indent=1) + "\n")
        (options.out / "latency.md").write_text(f"# One action, ten Euler steps\n\n{page}\n")
    return 7 if verdict.good and missed(results) else 0


def candidates(folder: Path, name: str, size: dict[str, Any]) -> dict[str, Call]:
    """Return a call for each way to compute an action, after a check that all but the Gaussian compute the same."""
    torch.manual_seed(0)
    network, policy = flow(size)
    obs, noise = torch.randn(1, size["observation"]), torch.randn(1, size["action"])
    program = fold(policy)
    source, header = c_source.source(program, NoiseChoice()), c_source.header(program, NoiseChoice())
    model = onnx_model.build(program, NoiseChoice()).SerializeToString()
    portable = folder / f"{name}.so"
    c_compiler.build(source, header, portable, PORTABLE_FLAGS)
    native = backends.CBackend(c_compiler.compiled(source, header), "flowrl")
    act = DeployedPolicy(native, size["observation"], size["action"])
    numbers, out = obs.numpy()[0], np.zeros(size["action"], np.float32)
    widths = [size["observation"], *size["hidden"], size["action"]]
    gaussian = mlp(widths)
    times = torch.linspace(0, 1, STEPS + 1)
    calls: dict[str, Call] = {
        "torchdiffeq": lambda: odeint(lambda t, x: plain(network, obs, x, float(t)), noise, times, method="euler")[-1],
        PLAIN: lambda: plain_loop(network, obs, noise),
        TORCH: lambda: generate(network, policy._integrator, obs, noise),
        "policy(obs), in torch": lambda: policy(obs),
        ONNX: computed(backends.OnnxBackend(model), obs, noise),
        PORTABLE: computed(backends.CBackend(portable, "flowrl"), obs, noise),
        NATIVE: computed(native, obs, noise),
        "flowrl.load, C, noise drawn": lambda: act(numbers, out=out),
        GAUSSIAN: lambda: gaussian(obs),
    }
    check(calls, generate(network, policy._integrator, obs, noise))
    return calls


def flow(size: dict[str, Any]) -> tuple[FlowNetwork, FlowPolicy]:
    """Return a network with random weights, and its policy without a normaliser, which no other way has."""
    settings = FlowPolicySettings(hidden=size["hidden"], parameterisation=size["parameterisation"], output_scale=1.0)
    network = FlowNetwork(size["observation"], size["action"], settings).requires_grad_(False)
    normaliser = Normaliser(size["observation"], enabled=False)
    sampler = registry.make("euler", {"steps": STEPS})
    noise = Noise(size["action"], "random", 0)
    return network, FlowPolicy(network, normaliser, noise, settings, sampler, training=False)


def plain(network: FlowNetwork, obs: Tensor, x: Tensor, t: float) -> Tensor:
    """Compute the velocity from observation, point and time, with nothing computed beforehand."""
    time = torch.full((1, 1), t)
    output = network.layers(torch.cat([obs, x, network.time_features(time)], dim=-1))
    settings = network.settings
    return to_velocity(output * settings.output_scale, x, t, settings.parameterisation)


@torch.inference_mode()
def plain_loop(network: FlowNetwork, obs: Tensor, x: Tensor) -> Tensor:
    for step in range(STEPS):
        x = x + plain(network, obs, x, step / STEPS) / STEPS
    return x


def mlp(widths: list[int]) -> Callable[[Tensor], Tensor]:
    """Return a network of `widths` in eager PyTorch, without gradients."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    network = nn.Sequential(*layers[:-1]).requires_grad_(False)
    return torch.inference_mode()(network.forward)


def computed(backend: backends.Backend, obs: Tensor, noise: Tensor) -> Call:
    """Return a call that computes the action into one array, without copies."""
    numbers, drawn = obs.numpy(), noise.numpy()
    out = np.zeros_like(drawn)

    def call() -> object:
        backend(numbers, drawn, out)
        return out

    return call


def check(calls: dict[str, Call], expected: Tensor) -> None:
    """Raise SystemExit unless the ways that get the same noise compute the same action."""
    for way in ("torchdiffeq", PLAIN, TORCH, ONNX, PORTABLE, NATIVE):
        found = torch.as_tensor(np.asarray(calls[way]()))
        if (found - expected).abs().max() > 1e-4:
            raise SystemExit(f"{way} computes another action")


def table(results: dict[str, dict[str, Timing]]) -> str:
    """Return a Markdown table: p50 in µs, and in brackets how many times as fast as the plain loop; p99 below."""
    ways = next(iter(results.values()))
    lines = [f"| p50 µs (factor), p99 µs | {' | '.join(results)} |", f"|---|{'---|' * len(results)}"]
    for way in ways:
        cells = []
        for of_size in results.values():
            timing = of_size[way]
            factor = of_size[PLAIN].p50_us / timing.p50_us
            cells.append(f"{timing.p50_us:.3g} ({factor:.3g}), {timing.p99_us:.3g}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def judged(results: dict[str, dict[str, Timing]]) -> list[tuple[str, list[tuple[float, float, bool]]]]:
    """Return for each bar (reached, bar, whether it is met) by size."""
    numbers = [list(SIZES).index(name) for name in results]
    rows = []
    for way, least in BARS.items():
        factors = [of_size[PLAIN].p50_us / of_size[way].p50_us for of_size in results.values()]
        met = [(factor, least[k], factor >= least[k]) for factor, k in zip(factors, numbers, strict=True)]
        rows.append((f"{way}, times as fast as the plain loop", met))
    shares = [of_size[NATIVE].p50_us / of_size[GAUSSIAN].p50_us for of_size in results.values()]
    most = [
        (share, SHARE_OF_GAUSSIAN[k], share <= SHARE_OF_GAUSSIAN[k]) for share, k in zip(shares, numbers, strict=True)
    ]
    return [*rows, (f"{NATIVE}, of the time of a {GAUSSIAN}", most)]


def missed(results: dict[str, dict[str, Timing]]) -> bool:
    """Return whether a bar is missed."""
    return not all(met for _, cells in judged(results) for _, _, met in cells)


def bars(results: dict[str, dict[str, Timing]]) -> str:
    """Return a Markdown table of the bars: what was reached, and the bar."""
    lines = [f"| reached (bar) | {' | '.join(results)} |", f"|---|{'---|' * len(results)}"]
    for what, cells in judged(results):
        texts = [f"{'' if met else '**missed** '}{value:.3g} ({bar:g})" for value, bar, met in cells]
        lines.append(f"| {what} | {' | '.join(texts)} |")
    return "\n".join(lines)


def conditions(verdict: Any) -> str:
    """Return the machine and whether it was quiet."""
    here = machine()
    quiet = "a quiet machine" if verdict.good else f"not a quiet machine: {verdict.reason}"
    loads = f"load {verdict.load_before:.1f} to {verdict.load_after:.1f}"
    return f"{here.processor}, {here.cores} cores, torch {here.torch}, {c_compiler.version()}; {loads}; {quiet}."


if __name__ == "__main__":
    sys.exit(main())
