"""Train, stop early and evaluate a policy in Python.

Run it with `python examples/train_in_python.py`; it takes some seconds.
"""

import flowrl


class StopWhenSolved:
    """A callback that stops the run after three iterations in a row with a success rate of 90 %."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def __call__(self, metrics: dict[str, float]) -> bool:
        self.in_a_row = self.in_a_row + 1 if metrics.get("success_rate", 0.0) >= 0.9 else 0
        return self.in_a_row == 3


def main() -> None:
    config = flowrl.load_config("gridworld", {"total_steps": 20_000, "learner.learning_rate": 1e-3})
    result = flowrl.train(config, callbacks=[StopWhenSolved()])
    print(f"{result.folder}: {result.env_steps:,} env steps, return {result.metrics['return_mean']:.3f}")

    for sampler, steps in [("euler", 10), ("heun", 5), ("euler", 1)]:
        summary = flowrl.evaluate(result.folder, sampler=sampler, steps=steps, episodes=64)
        low, high = summary["return_ci95"]
        print(f"{sampler}:{steps}: return {summary['return_mean']:.3f} [{low:.3f}, {high:.3f}], NFE {summary['nfe']}")


if __name__ == "__main__":
    main()
