"""Environment steps per second of PPO training on HalfCheetah-v5: flowrl compared with rsl_rl.

    python benchmarks/rsl_rl_halfcheetah.py --rsl-rl-python /tmp/rsl_rl/bin/python

16 environments, 128 steps each, 5 epochs of 4 minibatches, networks of 64 x 64, normalised observations and an
adaptive learning rate on both sides, one PyTorch thread. The time includes collecting and updating. Each measurement is
a process of its own; the two take turns, in an order that alternates between rounds. Two rows: with all cores, of which
rsl_rl uses one (its environments are stepped one after another by Gymnasium) and flowrl's simulation two or more; and
with both sides on one core. flowrl also writes metrics and saves checkpoints; rsl_rl does not here.

rsl_rl is not a dependency of flowrl: SETUP describes how to install it in a separate environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers import parser, run, turns

SETUP = """rsl_rl is not installed for {python}. To make a temporary environment for it, outside the repository, that
uses flowrl's torch, gymnasium and mujoco (so that nothing large is downloaded):
    python -m venv /tmp/rsl_rl
    python -c "import site; print(site.getsitepackages()[0])" > \\
        "$(/tmp/rsl_rl/bin/python -c 'import site; print(site.getsitepackages()[0])')/flowrl.pth"
    /tmp/rsl_rl/bin/pip install --no-deps rsl-rl-lib==5.5.1 tensordict pyvers orjson GitPython gitdb smmap \\
        importlib_metadata zipp
    python benchmarks/rsl_rl_halfcheetah.py --rsl-rl-python /tmp/rsl_rl/bin/python
where `python` is the one that has flowrl."""

ENVS, STEPS, EPOCHS, MINIBATCHES, HIDDEN = 16, 128, 5, 4, [64, 64]
OURS = {
    "algorithm": "ppo",
    "threads": 1,
    "env.count": ENVS,
    "rollout.steps": STEPS,
    "learner.epochs": EPOCHS,
    "learner.minibatches": MINIBATCHES,
    "learner.schedule.kind": "adaptive",
    "policy.hidden": HIDDEN,
    "policy.activation": "elu",
    "learner.critic.hidden": HIDDEN,
    "learner.critic.activation": "elu",
}
MODEL = {"class_name": "MLPModel", "hidden_dims": HIDDEN, "activation": "elu", "obs_normalization": True}
THEIRS: dict[str, Any] = {
    "num_steps_per_env": STEPS,
    "save_interval": 10**9,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "actor": MODEL | {"distribution_cfg": {"class_name": "GaussianDistribution"}},
    "critic": MODEL,
    "algorithm": {
        "class_name": "PPO",
        "num_learning_epochs": EPOCHS,
        "num_mini_batches": MINIBATCHES,
        "learning_rate": 1e-3,
        "schedule": "adaptive",
        "rnd_cfg": None,
        "symmetry_cfg": None,
    },
}


def main() -> int:
    options = _options()
    if options.side:
        print(json.dumps(train_rsl_rl(options.iterations)))
        return 0
    try:
        run([options.rsl_rl_python, "-c", "import rsl_rl, tensordict"])
    except (OSError, SystemExit):
        print(SETUP.format(python=options.rsl_rl_python), file=sys.stderr)
        return 8
    from flowrl.evaluation.machine import machine

    all_cores = os.sched_getaffinity(0)
    rows = {"all cores": measure(all_cores, options), "one core": measure({min(all_cores)}, options)}
    print(f"{'env steps/s, median':20}{'flowrl':>9}{'rsl_rl':>9}{'ratio':>8}  ratio by round")
    for name, row in rows.items():
        by_round = " ".join(f"{ratio:.2f}" for ratio in row["ratio_by_round"])
        print(f"{name:20}{row['flowrl']:9.0f}{row['rsl_rl']:9.0f}{row['flowrl'] / row['rsl_rl']:8.2f}  {by_round}")
    if options.out is not None:
        asked = "from importlib.metadata import version as v; print(v('rsl-rl-lib'))"
        facts: dict[str, Any] = {"rsl_rl": run([options.rsl_rl_python, "-c", asked])[0].strip()}
        facts |= {"environment": "HalfCheetah-v5", "steps": options.iterations * ENVS * STEPS}
        facts |= {"machine": asdict(machine()), "load": os.getloadavg()}
        options.out.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n")
    return 0


def measure(cores: set[int], options: argparse.Namespace) -> dict[str, Any]:
    """Median environment steps per second of each side on these `cores`, and the ratio of every round."""
    steps = options.iterations * ENVS * STEPS
    theirs = [options.rsl_rl_python, __file__, "--side", "rsl-rl", "--iterations", str(options.iterations)]
    speeds: dict[str, list[float]] = {"flowrl": [], "rsl_rl": []}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # what is started takes it over
    for number, side in turns(options.rounds, "rsl_rl"):
        with tempfile.TemporaryDirectory() as folder:
            output, _ = run(_flowrl(steps, folder) if side == "flowrl" else theirs)
        result = json.loads(output if side == "flowrl" else output.splitlines()[-1])
        speeds[side].append(steps / result["session_s" if side == "flowrl" else "seconds"])
        print(f"{len(cores)} cores, round {number + 1}, {side}: {speeds[side][-1]:.0f} steps/s", file=sys.stderr)
    os.sched_setaffinity(0, before)
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    return medians | {
        "speeds": speeds,
        "ratio_by_round": [ours / their for ours, their in zip(speeds["flowrl"], speeds["rsl_rl"], strict=True)],
    }


def train_rsl_rl(iterations: int) -> dict[str, float]:
    """Train with rsl_rl; runs in the interpreter that has it, which may lack flowrl."""
    import gymnasium
    import torch
    from gymnasium.vector import AutoresetMode, SyncVectorEnv
    from rsl_rl.runners import OnPolicyRunner  # type: ignore[import-not-found, unused-ignore]
    from tensordict import TensorDict  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)

    class Environments:
        """HalfCheetah-v5 as rsl_rl wants it."""

        num_envs, num_actions, max_episode_length, device = ENVS, 6, 1000, "cpu"

        def __init__(self) -> None:
            self.cfg: dict[str, Any] = {}
            makers = [lambda: gymnasium.make("HalfCheetah-v5")] * ENVS
            self.envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
            self.obs = self.envs.reset(seed=0)[0]
            self.episode_length_buf = torch.zeros(ENVS, dtype=torch.long)

        def get_observations(self) -> Any:
            return TensorDict({"policy": torch.from_numpy(self.obs).float()}, batch_size=ENVS)

        def step(self, actions: torch.Tensor) -> Any:
            self.obs, rewards, terminated, truncated, _ = self.envs.step(actions.numpy())
            done = torch.from_numpy(terminated | truncated)
            late = {"time_outs": torch.from_numpy(truncated).float()}
            return self.get_observations(), torch.from_numpy(rewards).float(), done, late

    runner = OnPolicyRunner(Environments(), THEIRS, log_dir=None, device="cpu")
    started = time.perf_counter()
    runner.learn(iterations)
    return {"seconds": time.perf_counter() - started}


def _flowrl(steps: int, folder: str) -> list[str]:
    settings = [word for key, value in (OURS | {"total_steps": steps}).items() for word in ("--set", f"{key}={value}")]
    return [
        *(sys.executable, "-m", "flowrl", "train", "halfcheetah.yaml", *settings),
        *("--out", folder, "--name", "run", "--json"),
    ]


def _options() -> argparse.Namespace:
    made = parser(__doc__, "rsl_rl", "rsl-rl")
    made.add_argument("--iterations", type=int, default=16, help="of 2048 environment steps, per measurement")
    made.add_argument("--out", type=Path, help="the file of the results")
    return made.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
