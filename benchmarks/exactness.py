"""Exports of every kind of policy, compared with the float64 referee by the contract of `flowrl export`.

    python benchmarks/exactness.py                 all: some minutes on one core
    python benchmarks/exactness.py --every 10      a tenth of them

Every sampler with fixed steps × parameterisation × activation × squash, flows to a Gaussian and to mixtures with wide
and narrow Gaussians, and Gaussian policies with each kind of spread, with networks from 1 to 1024 wide and
1 to 6 hidden layers in turn, masked and unmasked, bounded, half-bounded and unbounded, with and without a limit on the
action, and the weights with which a training begins. Prints the worst error of C and of ONNX by parameterisation, and
exits with 7 where one does not keep the contract.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch

from flowrl.deployment import backends, c_compiler, c_source, contract, onnx_model
from flowrl.deployment.folding import fold
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.networks.mlp import Activation
from flowrl.networks.velocity import NetworkSettings, Parameterisation
from flowrl.samplers import registry

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.deployment import random_policies

HIDDEN = ((1,), (3, 3), (31,), (32, 33, 32), (64,) * 4, (100, 7), (5, 6, 7, 8, 9, 10), (1024,), (256, 256), (33,) * 5)
SIZES = ((17, 6), (1, 1), (700, 40), (5, 33), (50, 12))  # observation, action
FLAGS = ("-std=c99", "-O2", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")


def cases() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the kind, the settings of a policy, and those of its bounds."""
    fixed = [name for name in registry.general() if hasattr(registry.make(name), "steps")]
    flows = product(fixed, get_args(Parameterisation), get_args(Activation), ("tanh", "clip"))
    gaussians = product(("state_independent", "state_dependent", "fixed"), get_args(Activation), ("tanh", "clip"))
    for number, (sampler, parameterisation, activation, squash) in enumerate(flows):
        settings = {
            "sampler": (sampler, 1 + number % 10),
            "parameterisation": parameterisation,
            "activation": activation,
        }
        settings |= {"action_limit": (None, 2.0)[number % 2], "output_scale": NetworkSettings().output_scale}
        yield parameterisation, settings | turn(number), ends(number, squash)
    bases = product(fixed, ("normal", "mixture"), ((-1, 1), (-3, -1)), ("tanh", "clip"))
    for number, (sampler, base, spreads, squash) in enumerate(bases):
        settings = {"sampler": (sampler, 1 + number % 10), "base": base, "output_scale": 0, "spreads": spreads}
        if base == "mixture":
            settings["components"] = (2, 4, 9)[number % 3]
        yield base, settings | turn(number), ends(number, squash)
    for number, (std, activation, squash) in enumerate(gaussians):
        yield "gaussian", {"std": std, "activation": activation} | turn(number), ends(number, squash)


def turn(number: int) -> dict[str, Any]:
    """Return sizes and mask of the policy with this number."""
    observation, action = SIZES[number % len(SIZES)]
    return {
        "hidden": HIDDEN[number % len(HIDDEN)],
        "observation": observation,
        "action": action,
        "masked": number % 3 == 0 and observation > 1,
        "seed": number,
    }


def ends(number: int, squash: str) -> dict[str, Any]:
    """Return the bounds of the policy with this number."""
    return {"squash": squash, "sides": ("bounded", "mixed", "unbounded")[number % 3]}


def verified(kind: str, settings: dict[str, Any], bounds: dict[str, Any], folder: Path) -> contract.Verification:
    """Export one policy as C and ONNX, and compare both."""
    policy = random_policies.gaussian(**settings) if kind == "gaussian" else random_policies.flow(**settings)
    limits = random_policies.bound(settings["action"], **bounds)
    program = fold(policy, random_policies.bounds(settings["action"], **bounds))
    choice, action = NoiseChoice(), settings["action"]
    ordinary, extreme = contract.vectors(
        program, lambda obs, noise: random_policies.act(policy, obs, noise, limits), choice, None
    )
    library = folder / "policy.so"
    library.unlink(missing_ok=True)  # a library in use keeps its own file
    c_compiler.build(c_source.source(program, choice), c_source.header(program, choice), library, FLAGS)
    compiled = backends.CBackend(library, "flowrl")
    model = backends.OnnxBackend(onnx_model.build(program, choice).SerializeToString())
    exports = {
        "c": backends.actions_of(compiled, action, given=True),
        "onnx": backends.actions_of(model, action, given=True),
    }
    return contract.verify(ordinary, extreme, exports)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth policy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(cases())[:: options.every]
    worst: dict[str, dict[str, float]] = {}
    failed = 0
    for number, (kind, settings, bounds) in enumerate(chosen):
        with TemporaryDirectory() as folder:
            found = verified(kind, settings, bounds, Path(folder))
        of_kind = worst.setdefault(kind, {"policies": 0, "checkpoint": 0.0, "c": 0.0, "onnx": 0.0, "of allowed": 0.0})
        of_kind["policies"] += 1
        scale = max(1.0, found.largest_action)
        of_kind["checkpoint"] = max(of_kind["checkpoint"], found.checkpoint_error / scale)
        for each in found.comparisons:
            of_kind[each.name] = max(of_kind[each.name], each.error / scale)
            of_kind["of allowed"] = max(of_kind["of allowed"], each.error / each.tolerance)
            if not each.exact:
                failed += 1
                print(f"NOT EXACT: {each.name} {each.error:.3g} {each.distance:.3g} of {kind} {settings} {bounds}")
        print(f"{number + 1} of {len(chosen)}", end="\r", file=sys.stderr, flush=True)
    print("| max error / max(1, largest action) | policies | checkpoint | C | ONNX | error / allowed |")
    print("|---|---|---|---|---|---|")
    for kind, row in worst.items():
        numbers = " | ".join(f"{row[key]:.2g}" for key in ("checkpoint", "c", "onnx", "of allowed"))
        print(f"| {kind} | {row['policies']:.0f} | {numbers} |")
    return 7 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
