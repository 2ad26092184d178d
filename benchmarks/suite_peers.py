"""One control task of envpool or dm_control, stepped on request: `suite_speed.py` starts it in their own Python.

    PYTHON suite_peers.py envpool ENVPOOL_ID COUNT
    PYTHON suite_peers.py dm_control DOMAIN/TASK 1

Answers "ready", then to every line with a number of steps, the seconds they took under random actions, after WARMING
more.
"""

import sys
import time
from importlib import import_module

import numpy as np

WARMING = 3  # as in `suite_speed.py`


def main() -> None:
    peer, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if peer == "envpool":
        env = import_module("envpool").make(name, env_type="gymnasium", num_envs=count)
        env.reset()
        low, high, shape = env.action_space.low, env.action_space.high, (count, *env.action_space.shape)
    else:
        env = import_module("dm_control.suite").load(*name.split("/"))
        env.reset()
        space = env.action_spec()
        low, high, shape = space.minimum, space.maximum, space.shape
    random = np.random.default_rng(0)
    print("ready", flush=True)
    for line in sys.stdin:
        actions = random.uniform(low, high, (int(line), *shape))
        for action in actions[:WARMING]:
            env.step(action)
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
