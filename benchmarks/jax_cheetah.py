"""Training FPO on CheetahRun: flowrl beside the authors' own code in JAX, on this machine's processor.

    python benchmarks/jax_cheetah.py --jax-python /tmp/jax/bin/python --reference /tmp/fpo/playground/src

The paper's networks (actor 4 x 32, critic 5 x 256), 8 probes, 10 Euler steps, 64 environments, 61,440 environment steps
per iteration in minibatches of 30,720, 4 epochs, on both sides. The two take turns, a process each; the first iteration
of each, in which JAX compiles for minutes, is not counted. The reference simulates with MJX in JAX and flowrl
with MuJoCo in C, so the update, where both do the same, is shown by itself.

The reference (https://github.com/akanazawa/fpo) needs Python 3.12: SETUP describes how to install it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from types import ModuleType

from peers import parser, run, turns

SETUP = """To set the reference up, outside the repository:
    git clone https://github.com/akanazawa/fpo /tmp/fpo && git -C /tmp/fpo checkout 418c2554f7cd
    python3.12 -m venv /tmp/jax
    /tmp/jax/bin/pip install "jax[cpu]==0.10.2" mujoco-mjx==3.17.0 playground==0.2.0 jax_dataclasses"""
ENVS, STEPS, EPOCHS, MINIBATCHES = 64, 960, 4, 2
PARTS = ("all", "collect", "update")


def main() -> int:
    options = _options()
    if options.side:
        print(json.dumps(reference(options.reference, options.iterations)))
        return 0
    try:
        run([options.jax_python, "-c", "import jax, mujoco_playground, jax_dataclasses"])
    except (OSError, SystemExit):
        options.reference = None
    if options.reference is None or not options.reference.is_dir():
        print(SETUP, file=sys.stderr)
        return 8
    from flowrl.evaluation.machine import machine

    theirs = [options.jax_python, __file__, "--side", "jax", "--reference", str(options.reference)]
    ours = [sys.executable, str(Path(__file__).with_name("training_speed.py")), "--json"]
    for key, value in {"env.count": ENVS, "rollout.steps": STEPS, "learner.minibatches": MINIBATCHES}.items():
        ours += ["--set", f"{key}={value}"]
    ours += ["--set", f"learner.epochs={EPOCHS}"]
    rounds: dict[str, list[dict[str, float]]] = {"flowrl": [], "reference": []}
    for number, side in turns(options.rounds, "reference"):
        command = [*(ours if side == "flowrl" else theirs), "--iterations", str(options.iterations)]
        found = json.loads(run(command)[0].splitlines()[-1])
        rounds[side].append(found)
        print(f"round {number + 1}, {side}: " + ", ".join(f"{part} {found[part]:.1f}" for part in PARTS))
    medians = {side: {part: median(each[part] for each in found) for part in PARTS} for side, found in rounds.items()}
    print(f"{'us per env step':20}{'flowrl':>9}{'JAX':>9}{'ratio':>8}")
    for part in PARTS:
        mine, other = medians["flowrl"][part], medians["reference"][part]
        print(f"{part:20}{mine:9.1f}{other:9.1f}{other / mine:8.2f}")
    if options.out is not None:
        facts = {"task": "CheetahRun", "machine": asdict(machine()), "unit": "microseconds per environment step"}
        options.out.write_text(json.dumps(facts | {"median": medians, "rounds": rounds}, indent=2) + "\n")
    return 0


def reference(source: Path, iterations: int) -> dict[str, float]:
    """Microseconds per environment step of the authors' code; runs in the interpreter that has JAX."""
    for name in ("wandb", "wandb.sdk", "wandb.sdk.wandb_run"):  # imported there for a type; nothing is logged here
        sys.modules[name] = ModuleType(name)
    sys.modules["wandb.sdk.wandb_run"].Run = object  # type: ignore[attr-defined]
    sys.path.insert(0, str(source))
    import jax  # type: ignore[import-not-found, unused-ignore]
    from flow_policy import fpo, rollouts  # type: ignore[import-not-found, unused-ignore]
    from mujoco_playground import registry  # type: ignore[import-not-found, unused-ignore]

    config = fpo.FpoConfig(
        num_envs=ENVS, num_updates_per_batch=EPOCHS, num_minibatches=MINIBATCHES, batch_size=1024, unroll_length=30
    )
    assert config.iterations_per_env == STEPS
    task = registry.get_default_config("CheetahRun")
    task.impl = "jax"  # by default Warp, which is for GPUs
    env = registry.load("CheetahRun", config=task)
    agent = fpo.FpoState.init(prng=jax.random.key(0), env=env, config=config)
    state = rollouts.BatchedRolloutState.init(env, prng=jax.random.key(0), num_envs=ENVS)
    taken: dict[str, list[float]] = {"collect": [], "update": []}
    for _ in range(1 + iterations):
        begun = time.perf_counter()
        state, transitions = state.rollout(agent, episode_length=1000, iterations_per_env=STEPS)
        jax.block_until_ready(transitions)
        collected = time.perf_counter()
        agent, metrics = agent.training_step(transitions)
        jax.block_until_ready((agent.params, metrics))
        taken["collect"].append(collected - begun)
        taken["update"].append(time.perf_counter() - collected)
    taken["all"] = [sum(both) for both in zip(*taken.values(), strict=True)]
    medians = {part: 1e6 * median(values[1:]) / (ENVS * STEPS) for part, values in taken.items()}
    return medians | {"first_s": taken["all"][0]}


def _options() -> argparse.Namespace:
    made = parser(__doc__, "JAX", "jax", "python3.12")
    made.add_argument("--reference", type=Path, help="the folder playground/src of the reference")
    made.add_argument("--iterations", type=int, default=3, help="after the first, per round")
    made.add_argument("--out", type=Path, help="where the figures go as JSON")
    return made.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
