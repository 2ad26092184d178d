# The public names, for type checkers and editors; __init__.py imports each when it is first used.
from flowrl.contracts.protocols import Sampler as Sampler
from flowrl.deployment.serving import DeployedPolicy as DeployedPolicy
from flowrl.experiments.api import evaluate as evaluate
from flowrl.experiments.api import load_config as load_config
from flowrl.experiments.api import make_env as make_env
from flowrl.experiments.api import train as train
from flowrl.experiments.serve import load as load
from flowrl.flow.matching import cfm_loss as cfm_loss
from flowrl.flow.matching import draw_probes as draw_probes
from flowrl.policies.flow import FlowPolicy as FlowPolicy
from flowrl.training.advantage import gae as gae
from flowrl.training.learner import Learner as Learner

__version__: str
