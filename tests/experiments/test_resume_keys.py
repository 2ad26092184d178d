"""Every key of a recipe at a resume: what may change acts from the next update on, what belongs to the run is refused.

The keys are found by walking the configuration, and each is judged by its effect: weights after one more iteration,
files, threads, or exit code and message. A new key fails here until it has a test value.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl import cli
from flowrl.config import resume
from flowrl.config.recipe import Recipe, apply
from flowrl.config.schema import Config, load
from flowrl.config.yaml_reader import dotted
from flowrl.envs import factory
from flowrl.experiments import build, train
from flowrl.reporting.jsonl import read
from flowrl.storage import checkpoint
from flowrl.training.learner import Learner
from flowrl.training.learner_settings import LearnerSettings

ITERATION = 64  # env steps
GRID = {"id": "flowrl/GridWorld-v0", "count": 8, "options": {"max_steps": 5}}
PENDULUM = {"id": "InvertedPendulum-v5", "count": 8}
BASES: dict[str, dict[str, Any]] = {
    "flow": {"algorithm": "fpo", "env": GRID, "sampler": {"name": "euler", "steps": 2}},
    "gaussian": {"algorithm": "ppo", "env": GRID},
    "simulation": {"algorithm": "ppo", "env": PENDULUM},  # for the keys of `env`
}


@dataclass(frozen=True)
class Trial:
    """A value to set at a resume, other keys to set with it so that it matters, and what it must change."""

    value: str
    also: tuple[str, ...] = ()
    effect: str = "update"  # the name of a function below


STOP = f"{Path(__file__).parents[1] / 'data' / 'callbacks' / 'stop_at_once.py'}:stop"
ADAPTIVE, LINEAR = "learner.schedule.kind=adaptive", "learner.schedule.kind=linear"
SMALL_TARGET, LARGE_TARGET = "learner.schedule.target=1e-9", "learner.schedule.target=1000"
LOGNORMAL = "learner.probes.law=lognormal"
TRIALS: dict[str, Trial] = {
    "total_steps": Trial(str(8 * ITERATION), (LINEAR,), effect="budget"),
    "device": Trial("auto", effect="device"),
    "threads": Trial("2", effect="threads"),
    "noise": Trial("zero", effect="evaluation"),
    "noise_scale": Trial("0", effect="evaluation"),
    "env.mode": Trial("sync", effect="way"),
    "env.threads": Trial("7", effect="simulation_threads"),
    "env.simulator": Trial("mujoco", effect="engine"),
    "env.warp.device": Trial("cpu", effect="engine"),
    "env.warp.contacts": Trial("7", effect="engine"),
    "env.warp.constraints": Trial("7", effect="engine"),
    "env.warp.deterministic": Trial("true", effect="engine"),
    "env.timeout_s": Trial("7", ("env.mode=async",), effect="time_limit"),
    "sampler.name": Trial("heun", effect="rollout"),
    "sampler.steps": Trial("5", effect="rollout"),
    "learner.clip": Trial("1e-6"),
    "learner.probes.count": Trial("3"),
    "learner.probes.law": Trial("stratified"),
    "learner.probes.grid": Trial("2", ("learner.probes.law=grid",)),
    "learner.probes.mean": Trial("1", (LOGNORMAL,)),
    "learner.probes.std": Trial("0.1", (LOGNORMAL,)),
    "learner.probes.odds": Trial("1", ("learner.probes.law=log_odds",)),
    "learner.probes.antithetic": Trial("pair"),
    "learner.probes.coupled": Trial("true"),
    "learner.anchor": Trial("10"),
    "learner.loss.weighting": Trial("eps"),
    "learner.loss.reduction": Trial("sum"),
    "learner.loss.elbo_floor": Trial("0.9", ("learner.loss.weighting=elbo",)),
    "learner.loss_limit": Trial("0.1"),
    "learner.loss_limit_negative": Trial("0.1"),
    "learner.log_ratio_bound": Trial("1e-6"),
    "learner.gamma": Trial("0.5"),
    "learner.gae_lambda": Trial("0.5"),
    "learner.advantage_floor": Trial("1", ("learner.gae_lambda=0",)),
    "learner.epochs": Trial("3"),
    "learner.minibatches": Trial("4"),
    "learner.microbatch": Trial("5"),  # other sums, so other last bits
    "learner.graph": Trial("auto", effect="recording"),
    "learner.learning_rate": Trial("0.01"),
    "learner.critic_learning_rate": Trial("0.01"),
    "learner.schedule.kind": Trial("linear"),
    "learner.schedule.target": Trial("1000", (ADAPTIVE, SMALL_TARGET, "learner.clip=1e-6"), "factor"),
    "learner.schedule.smallest": Trial(
        "1", (ADAPTIVE, SMALL_TARGET, "learner.clip=1e-6", "learner.learning_rate=0.01"), "factor"
    ),
    "learner.schedule.largest": Trial("1", (ADAPTIVE, LARGE_TARGET), "factor"),
    "learner.adam_beta1": Trial("0.5"),
    "learner.adam_beta2": Trial("0.5"),
    "learner.weight_decay": Trial("0.5"),
    "learner.max_grad_norm": Trial("1e-3"),
    "learner.value_coefficient": Trial("5", ("learner.max_grad_norm=null",)),
    "learner.value_clip": Trial("1e-4"),
    "learner.entropy_coefficient": Trial("0.5"),
    "learner.ema_decay": Trial("0.5"),
    "learner.ema_start": Trial("100", ("learner.ema_decay=0.5",)),
    "checkpoint.every_s": Trial("0", effect="number_of_saves"),
    "checkpoint.best_over": Trial("1", effect="best_file"),
    "imports": Trial("[tests.experiments.imported_at_resume]", effect="imported"),
    "trackers": Trial("[]", effect="event_file"),
    "callbacks": Trial(f"['{STOP}']", (f"total_steps={8 * ITERATION}",), effect="stopped"),
}
REFUSED: dict[str, str] = {
    "algorithm": "fpo++",
    "seed": "5",
    "shards": "2",
    "init_from": "runs/other",
    "env.id": "Pendulum-v1",
    "env.count": "4",
    "env.squash": "tanh",
    "env.action_repeat": "2",
    "env.options": "{mode: single_wall}",
    "env.wrappers": "[FlattenObservation]",
    "env.history": "2",
    "env.flatten": "true",
    "env.warp.nursery": "1",
    "env.goal": "root",
    "env.motions": "gait:walk",
    "policy.kind": "gaussian",
    "policy.hidden": "[9]",
    "policy.activation": "relu",
    "policy.time_features": "4",
    "policy.output_scale": "2",
    "policy.parameterisation": "eps",
    "policy.base": "normal",
    "policy.components": "8",
    "policy.smallest_std": "0.5",
    "policy.residual": "true",
    "policy.perturbation": "0.5",
    "policy.action_limit": "1",
    "policy.std": "fixed",
    "policy.initial_std": "2",
    "rollout.steps": "4",
    "rollout.noise_correlation": "0.5",
    "rollout.stagger": "false",
    "learner.ratio": "per_probe",
    "learner.surrogate": "spo",
    "learner.reward_scale": "2",
    "learner.normalise_advantages": "no",
    "learner.normalise_observations": "false",
    "learner.critic.hidden": "[9]",
    "learner.critic.activation": "relu",
    "learner.critic.residual": "true",
    "learner.critic_goal": "masked",
}
ONLY = {  # beginnings of the keys that only one kind of policy has, or that act on it alone
    "flow": (
        *("sampler.", "learner.probes.", "learner.loss.", "learner.loss_limit", "learner.anchor"),
        *("policy.time_features", "policy.output_scale", "policy.parameterisation", "policy.base", "policy.components"),
        *("policy.perturbation", "policy.action_limit"),
    ),
    "gaussian": ("policy.std", "policy.initial_std", "learner.entropy_coefficient"),
}


def concerns(key: str, kind: str) -> bool:
    return not any(key.startswith(ONLY[other]) for other in ONLY if other != kind) or key.startswith("env.")


def base_config(kind: str) -> Config:
    settings = {
        "total_steps": 3 * ITERATION,
        "policy": {"hidden": [8]},
        "rollout": {"steps": 8},
        "learner": {"epochs": 2, "minibatches": 2, "critic": {"hidden": [8]}},
        "checkpoint": {"best_over": 0},
    }
    return load(Recipe("base", BASES[kind] | settings))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, of three iterations."""
    folder = tmp_path_factory.mktemp("bases")
    plans = {kind: train.TrainPlan(base_config(kind), kind) for kind in BASES}
    return {kind: train.train(plan, folder, kind, quiet=True).folder for kind, plan in plans.items()}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def weights(content: dict[str, Any]) -> torch.Tensor:
    """The numbers of actor, critic and average, all in one."""
    tensors = [*content["actor"].values(), *content["critic"].values(), *(content["average"] or {}).values()]
    return torch.cat([tensor.flatten() for tensor in tensors])


# --- effects on one more iteration, in memory -------------------------------------------------------


@dataclass(frozen=True)
class Iterated:
    """A run that was restored with other settings and did one more iteration."""

    before: dict[str, Any]  # the content of its checkpoint
    config: Config
    state: dict[str, Any]  # of the learner afterwards

    @classmethod
    def of(cls, before: dict[str, Any], overrides: tuple[str, ...]) -> Iterated:
        trained = build.load_config(before, Path("ckpt.pt"))
        longer = (f"total_steps={4 * ITERATION}", *overrides)
        changed = apply(Recipe("run", trained.model_dump(mode="json")), longer)
        run = build.Run(resume.changed_config(trained, changed, "run"))
        run.restore(copy.deepcopy(before))
        run.training.iterate()
        run.env.close()
        return cls(before, run.config, run.training.learner.state_dict())


def by_hand(run: Iterated) -> torch.Tensor:
    """The weights of a learner made with the changed settings, its state put in by hand, after the same rollout."""
    config, before = run.config, run.before
    settings, updates = config.learner, -(-config.total_steps // ITERATION)
    driver = build.Run(config)  # acts, and owns the environment
    driver.restore(copy.deepcopy(before))  # whose tensors the run goes on with
    acting = driver.training
    (rollout,) = acting.collect()
    driver.env.close()
    networks = {name: copy.deepcopy(getattr(acting.learner, name)) for name in ("actor", "critic", "normaliser")}
    for name, network in networks.items():
        network.load_state_dict(before[name])
    estimator = build.make_ratio_estimator(networks["actor"], config)
    learner = Learner(estimator, networks["critic"], networks["normaliser"], settings, updates, seed=0)
    for number, parameter in enumerate(p for group in learner.optimizer.param_groups for p in group["params"]):
        saved = before["optimizer"]["state"][number]
        learner.optimizer.state[parameter] = {key: value.clone() for key, value in saved.items()}
    factor = 1 - 3 / updates if settings.schedule.kind == "linear" else 1.0  # after 3 updates
    learner.schedule.updates, learner.schedule.factor = 3, factor
    actor, critic = learner.optimizer.param_groups
    actor["lr"] = settings.learning_rate * factor
    critic["lr"] = (settings.critic_learning_rate or settings.learning_rate) * factor
    learner._scale.largest = before["advantage_scale"]
    learner.generators[0].set_state(before["shards"][0]["generator"])
    learner.update(rollout)
    return weights(learner.state_dict())


def update(plain: Iterated, changed: Iterated) -> bool:
    assert torch.equal(weights(changed.state), by_hand(changed))
    one, other = weights(plain.state), weights(changed.state)
    return one.shape != other.shape or not torch.equal(one, other)


def factor(plain: Iterated, changed: Iterated) -> bool:
    """The learning rate of the update after the next one."""
    factors = [run.state["schedule"]["factor"] for run in (plain, changed)]
    return bool(factors[0] != factors[1])


def rollout(plain: Iterated, changed: Iterated) -> bool:
    """The sampler acts in the next rollout, and evaluation takes it from the checkpoint."""
    samplers = []
    for run in (plain, changed):
        content = run.before | run.state | {"config": run.config.model_dump(mode="json")}
        samplers.append(
            build.load_policy(Path("ckpt.pt"), content, build.load_config(content, Path("ckpt.pt"))).policy.sampler
        )
    assert samplers[0] != samplers[1]
    return not torch.equal(weights(plain.state), weights(changed.state))


IN_MEMORY = {"update", "factor", "rollout"}


# --- effects on a resumed run, in its folder --------------------------------------------------------


@dataclass(frozen=True)
class Resumed:
    """A copy of a run that was resumed with other settings for one more iteration."""

    folder: Path
    after: dict[str, Any]  # the content of its checkpoint
    saves: int  # of ckpt.pt

    @property
    def config(self) -> Config:
        return build.load_config(self.after, Path("ckpt.pt"))

    @classmethod
    def of(cls, base: Path, folder: Path, overrides: tuple[str, ...]) -> Resumed:
        shutil.copytree(base, folder)
        saved: list[str] = []

        def save(path: Path, content: dict[str, Any]) -> None:
            saved.append(path.name)
            original(path, content)

        original = checkpoint.save
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", save)
            plan = train.plan(None, [f"total_steps={4 * ITERATION}", *overrides], folder)
            train.train(plan, folder.parent, None, quiet=True)
        return cls(folder, checkpoint.load(folder / "ckpt.pt"), saved.count("ckpt.pt"))


def budget(plain: Resumed, changed: Resumed) -> bool:
    """It trains for as long as it says, and a linear schedule follows the new length: 3 of 4 and 3 of 8 updates."""
    steps = [run.after["progress"]["env_steps"] for run in (plain, changed)]
    rates = [read(run.folder / "metrics.jsonl")[3]["learning_rate"] for run in (plain, changed)]
    initial = LearnerSettings().learning_rate
    assert rates == pytest.approx([initial * 1 / 4, initial * 5 / 8])
    return bool(steps == [4 * ITERATION, 8 * ITERATION])


def evaluation(plain: Resumed, changed: Resumed) -> bool:
    modes = [build.load_policy(Path("ckpt.pt"), run.after, run.config).policy.noise.mode for run in (plain, changed)]
    assert modes == ["random", "zero"]
    return torch.equal(weights(plain.after), weights(changed.after))  # of evaluation alone


def threads(plain: Resumed, changed: Resumed) -> bool:
    return bool(plain.after["platform"]["threads"] == 1 and changed.after["platform"]["threads"] == 2)


def device(plain: Resumed, changed: Resumed) -> bool:
    """`auto` takes the processor where there is no GPU."""
    assert changed.after["platform"]["device"] == "cpu" or torch.cuda.is_available()
    return bool(plain.config.device == "cpu" and changed.config.device == "auto")


def way(plain: Resumed, changed: Resumed) -> bool:
    """One environment after another has a state per environment, all together have one state."""
    states = [run.after["shards"][0]["env"]["envs"] for run in (plain, changed)]
    return not isinstance(states[0], list) and isinstance(states[1], list) and len(states[1]) == 8


def simulation_threads(plain: Resumed, changed: Resumed) -> bool:
    envs: list[Any] = [factory.make(run.config.env) for run in (plain, changed)]
    numbers = [env._envs.runner.simulation.threads for env in envs]
    for env in envs:
        env.close()
    assert torch.equal(weights(plain.after), weights(changed.after))
    return bool(numbers[0] != numbers[1] == 7)


def engine(plain: Resumed, changed: Resumed) -> bool:
    """MuJoCo, which `auto` takes here, does not read what MuJoCo Warp does; `test_mujoco_warp` shows its effect."""
    assert torch.equal(weights(plain.after), weights(changed.after))
    blocks = [(run.config.env.simulator, run.config.env.warp) for run in (plain, changed)]
    return bool(blocks[0] != blocks[1])


def recording(plain: Resumed, changed: Resumed) -> bool:
    """On a CPU `auto` records nothing; `test_recorded_step` shows that recorded steps give the same bits."""
    assert torch.equal(weights(plain.after), weights(changed.after)) or torch.cuda.is_available()
    return plain.config.learner.graph is False and changed.config.learner.graph == "auto"


def time_limit(plain: Resumed, changed: Resumed) -> bool:
    limits: list[Any] = []
    for run in (plain, changed):
        env: Any = factory.make(run.config.env, count=1)
        limits.append(env._envs.timeout_s)
        env.close()
    return limits == [120, 7]


def number_of_saves(plain: Resumed, changed: Resumed) -> bool:
    return (plain.saves, changed.saves) == (1, 2)  # at the end; and after the iteration


def best_file(plain: Resumed, changed: Resumed) -> bool:
    return not (plain.folder / "best.pt").exists() and (changed.folder / "best.pt").is_file()


def imported(plain: Resumed, changed: Resumed) -> bool:
    saved = [checkpoint.load(run.folder / "ckpt.pt") for run in (plain, changed)]
    name = "tests.experiments.imported_at_resume"
    in_code = [name in content.get("code", {}) for content in saved]
    return [content["config"]["imports"] for content in saved] == [[], [name]] and in_code == [False, True]


def event_file(plain: Resumed, changed: Resumed) -> bool:
    """A session with TensorBoard writes an event file of its own."""
    numbers = [len(list(run.folder.glob("events.out.tfevents.*"))) for run in (plain, changed)]
    return numbers == [2, 1]


def stopped(plain: Resumed, changed: Resumed) -> bool:
    """It asks to stop after the first iteration of the session, the fourth of the run."""
    return [run.after["progress"]["iteration"] for run in (plain, changed)] == [8, 4]


# --- the tests --------------------------------------------------------------------------------------


def test_every_key_has_a_test_value_and_a_reason_where_it_is_refused() -> None:
    rules = {dotted(path): rule for path, rule in resume.rules()}
    assert set(rules) == TRIALS.keys() | REFUSED.keys()
    assert {key for key, rule in rules.items() if rule.changeable} == TRIALS.keys()
    assert all(rule.reason for rule in rules.values() if not rule.changeable)
    assert all(resume.rule_of(path) == rule for path, rule in resume.rules())


def refused(key: str, value: str, run: Path, capsys: pytest.CaptureFixture[str], *also: str) -> str:
    """The message with which `--set key=value` is refused, the files of the run being what they were."""
    before = files(run)
    sets = [word for override in (f"{key}={value}", *also) for word in ("--set", override)]
    assert cli.run(["train", "--resume", str(run), *sets]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"flowrl: --set {key}={value}")
    assert message.count("\n") == 1 and "Traceback" not in message and "ckpt.pt" not in message
    assert files(run) == before
    return message


CASES = [
    (key, kind)
    for key, trial in TRIALS.items()
    for kind in (["simulation"] if key.startswith("env.") else ["flow", "gaussian"])
    if trial.effect in IN_MEMORY or kind != "gaussian"  # what has nothing to do with learning is shown for one kind
]


@pytest.mark.parametrize(("key", "kind"), CASES)
def test_a_key_that_may_change_acts(
    key: str, kind: str, bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where it has no effect on the kind of policy, it is refused."""
    trial = TRIALS[key]
    change = (*trial.also, f"{key}={trial.value}")
    if not concerns(key, kind):
        assert f"no effect on a {kind} policy" in refused(key, trial.value, bases[kind], capsys)
    elif trial.effect in IN_MEMORY:
        before = checkpoint.load(bases[kind] / "ckpt.pt")
        assert globals()[trial.effect](Iterated.of(before, trial.also), Iterated.of(before, change))
    else:
        plain = Resumed.of(bases[kind], tmp_path / "plain", trial.also)
        assert globals()[trial.effect](plain, Resumed.of(bases[kind], tmp_path / "changed", change))


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_belongs_to_the_run_is_refused(
    key: str, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "flow" if concerns(key, "flow") else "gaussian"
    message = refused(key, REFUSED[key], bases[kind], capsys, f"total_steps={9 * ITERATION}")
    assert f": {key}" in message and resume.rule_of(tuple(key.split("."))).reason in message


@pytest.mark.parametrize(("key", "value"), [("policy.kind", "flow"), ("algorithm", "fpo"), ("policy.hidden", "[4, 4]")])
def test_it_is_refused_too_where_nothing_is_left_to_train(
    key: str, value: str, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f": {key} is " in refused(key, value, bases["gaussian"], capsys)


@pytest.mark.parametrize("kind", ["flow", "gaussian"])
def test_a_key_may_be_set_to_the_value_it_has(kind: str, bases: dict[str, Path]) -> None:
    config = checkpoint.load(bases[kind] / "ckpt.pt")["config"]
    overrides = []
    for path, _ in resume.rules():
        value: Any = config
        for step in path:
            value = value.get(step, ...) if isinstance(value, dict) else ...
        if value is not ...:
            overrides.append(f"{dotted(path)}={json.dumps(value)}")
    assert len(overrides) > 50
    plan = train.plan(None, overrides, bases[kind])
    assert plan.config.model_dump(mode="json") == config and plan.is_finished


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("sampler.name", "dopri5", "'steps'"),  # an option that the run's own sampler has
        ("learner.clip", "-1", "must be > 0"),
        ("learner.ema_decay", "2", "must be < 1"),
        ("checkpoint.every", "3", "unknown key"),
        ("learner.lr", "0.1", "Did you mean 'learner.learning_rate'?"),
        ("bogus", "1", "unknown key"),
    ],
)
def test_a_wrong_value_is_blamed_on_its_override(
    key: str, value: str, part: str, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(key, value, bases["flow"], capsys)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("policy={kind: gaussian}", "policy.kind"),
        ("env={id: flowrl/GridWorld-v0}", "env.count"),  # its default is 16
        ("learner={clip: 0.1}", "learner.critic.hidden"),
        ("env.options.mode=two_walls", "env.options.mode"),
        ("seed={a: 1}", "seed.a"),
    ],
)
def test_a_block_is_refused_for_the_key_in_it(
    override: str, key: str, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{override}: {key} is " in refused(*override.split("=", 1), bases["flow"], capsys)
