"""flowrl: train, evaluate and time policies that generate their actions with a flow.

From Python: `load_config`, `train`, `evaluate` and `make_env` do what the commands do, and `load` gives a policy to a
control loop; `FlowPolicy`, `Learner`, `cfm_loss`, `draw_probes`, `gae` and `Sampler` are the parts. Each is imported
when it is first used, so that `import flowrl` is fast and imports no torch.
"""

__version__ = "0.1.0"

_HOMES = {  # public name -> the module that defines it
    "load_config": "flowrl.experiments.api",
    "train": "flowrl.experiments.api",
    "evaluate": "flowrl.experiments.api",
    "make_env": "flowrl.experiments.api",
    "load": "flowrl.experiments.serve",
    "DeployedPolicy": "flowrl.deployment.serving",
    "FlowPolicy": "flowrl.policies.flow",
    "Learner": "flowrl.training.learner",
    "cfm_loss": "flowrl.flow.matching",
    "draw_probes": "flowrl.flow.matching",
    "gae": "flowrl.training.advantage",
    "Sampler": "flowrl.contracts.protocols",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'flowrl' has no attribute {name!r}")
    value = getattr(__import__(_HOMES[name], fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
