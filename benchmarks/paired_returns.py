"""Returns of one policy under several samplers, noises or copies, and their differences in pairs.

python benchmarks/paired_returns.py RUN noise_scale=0.5 "sampler=euler steps=4" RUN/distilled-1.pt --episodes 256

The first row is the policy as it was trained, with random noise. Every other argument is a set of options of `flowrl
eval`, or another checkpoint. All play the same episodes (64 at once, so that each has a start and noise of its own);
the last columns are the mean of the differences to the first row, episode by episode, with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.evaluation import statistics
from flowrl.experiments import evaluate
from flowrl.experiments.evaluate import EvalRequest

AT_ONCE = 64


def returns(run: str, asked: str, episodes: int, seed: int) -> NDArray[np.float64]:
    """Return the returns (episodes,) of a checkpoint, or of `run` under the options `asked`."""
    options: dict[str, Any] = {"noise": "random"}
    path = run
    if "=" in asked:
        options |= dict(word.split("=", 1) for word in asked.split())
    elif asked:
        path = asked
    if "steps" in options:
        options["steps"] = int(options["steps"])
    opened = evaluate.open_checkpoint(Path(path))
    rounds = [
        evaluate.evaluate_checkpoint(opened, EvalRequest(episodes=AT_ONCE, seed=seed + number, **options))
        for number in range(episodes // AT_ONCE)
    ]
    return np.concatenate([each.evaluation.returns for each in rounds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("others", nargs="*")
    parser.add_argument("--episodes", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--seed", type=int, default=1000)
    given = parser.parse_args()
    first = returns(given.run, "", given.episodes, given.seed)
    print("| actions | return | difference | |\n|---|---|---|---|")
    for asked in ("", *given.others):
        found = returns(given.run, asked, given.episodes, given.seed)
        low, high = statistics.bootstrap(found)
        mean, (least, most) = float((found - first).mean()), statistics.bootstrap(found - first)
        share = mean / abs(float(first.mean()))
        print(
            f"| {asked or 'as trained'} | {found.mean():.4g} [{low:.4g}, {high:.4g}] | {mean:+.3g} [{least:.3g}, "
            f"{most:.3g}] | {share:+.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
