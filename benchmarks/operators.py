"""Operators and synchronisations of one update, counted: what a GPU would have to be told, and to wait for.

    python benchmarks/operators.py [RECIPE] [--set KEY=VALUE ...]

An operator is a call of PyTorch that computes something: views are not counted. A synchronisation reads a number from
a tensor, for which a CPU would wait for a GPU. The update is the first of the recipe, of cheetah.yaml by default.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from flowrl.config import recipe
from flowrl.config.schema import load
from flowrl.experiments.build import Run

SYNCHRONISATIONS = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.is_nonzero.default")


class Counted(TorchDispatchMode):
    """Counts the operators that run within."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and str(func).startswith("aten.") and str(func) != "aten.detach.default":
            self.operators[str(func)] += 1
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="cheetah.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--most", type=int, default=12, help="operators to name")
    options = parser.parse_args()
    run = Run(load(recipe.apply(recipe.read(options.recipe), ["threads=1", *options.set])))
    run.start()
    training = run.training
    rollouts = training.collect()
    with Counted() as counted:
        training.learner.update(*rollouts)
    found = counted.operators
    waits = sum(found[name] for name in SYNCHRONISATIONS)
    print(f"{sum(found.values())} operators, {waits} synchronisations per update")
    for name, count in found.most_common(options.most):
        print(f"  {count:5} {name}")


if __name__ == "__main__":
    main()
