"""Write a sampler of your own, and compare it with a built-in one on a trained policy.

A sampler is any callable (velocity, x, t0, t1) -> x at t1; t = 0 is noise, t = 1 the action. A frozen dataclass makes
its fields options: `flowrl eval RUN --sampler examples/own_sampler.py:QuadraticGrid --set sampler.steps=4` works too,
and `flowrl samplers check examples/own_sampler.py:QuadraticGrid` tests it.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

import flowrl


@dataclass(frozen=True)
class QuadraticGrid:
    """Euler's method with steps that become shorter towards t1: t_i = t0 + (t1 - t0) (1 - (1 - i / n)²)."""

    steps: int = 8

    @property
    def nfe(self) -> int:
        """Velocity evaluations of one call."""
        return self.steps

    def __call__(self, velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        nodes = [t0 + (t1 - t0) * (1 - (1 - i / self.steps) ** 2) for i in range(self.steps + 1)]
        for t, after in pairwise(nodes):
            x = x + (after - t) * velocity(x, t)
        return x


def main() -> None:
    result = flowrl.train("gridworld", {"total_steps": 8_000})
    for sampler in (QuadraticGrid(steps=2), QuadraticGrid(steps=8), "euler"):
        summary = flowrl.evaluate(result.folder, sampler=sampler, episodes=64)
        print(f"{sampler}: return {summary['return_mean']:.3f}, NFE {summary['nfe']}")


if __name__ == "__main__":
    main()
