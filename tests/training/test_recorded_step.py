"""Recorded steps: replaying operators on the same memory, as a CUDA graph does, trains to the last bit as calling."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import flowrl
from flowrl.config import recipe
from flowrl.config.schema import load
from flowrl.contracts.errors import UsageError
from flowrl.experiments import graphs, ratio_study
from flowrl.experiments.build import Run
from flowrl.storage import checkpoint
from flowrl.training.learner import Diverged
from tests.equality import difference
from tests.tape import Tape

RECIPE = """\
total_steps: 100_000
env: {id: Pendulum-v1, count: 4}
policy: {hidden: [8, 8]}
rollout: {steps: 16}
learner: {epochs: 2, minibatches: 3, microbatch: 16, schedule: {kind: linear}, critic: {hidden: [8]}}
"""


def run_of(folder: Path, *settings: str) -> Run:
    file = folder / "recipe.yaml"
    file.write_text(RECIPE)
    run = Run(load(recipe.apply(recipe.read(str(file)), list(settings))))
    run.start()
    return run


def trained(run: Run, iterations: int = 3) -> list[dict[str, float]]:
    learner = run.training.learner
    return [learner.update(*run.training.collect()) for _ in range(iterations)]


FPO = ("algorithm=fpo", "fpo.learner.probes.count=3")
KINDS: dict[str, tuple[str, ...]] = {
    "fpo": FPO,
    "mixture": (*FPO, "policy.base=mixture", "policy.output_scale=0", "learner.surrogate=mirror"),
    "by_std": (*FPO, "policy.base=mixture", "policy.output_scale=0", "learner.loss.reduction=by_std"),
    "per probe": (*FPO, "learner.ratio=per_probe", "learner.loss_limit=20", "learner.loss_limit_negative=10"),
    "anchor": (*FPO, "learner.anchor=0.1", "learner.normalise_advantages=minibatch"),
    "ppo": ("algorithm=ppo", "learner.entropy_coefficient=0.01", "learner.value_clip=0.2"),
    "tail": (*FPO, "learner.ratio=tail", "policy.perturbation=0.3"),
    "exact": (*FPO, "learner.ratio=exact", "policy.base=mixture"),
    "data": (*FPO, "policy.parameterisation=data", "sampler={name: dopri5}"),
    "adaptive": ("algorithm=ppo", "learner.schedule={kind: adaptive}", "learner.adam_beta1=0.8"),
}
PLAIN = ("ppo", "adaptive", "data")  # without a sampler, or with an adaptive one


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long) if kind == "exact" else kind for kind in KINDS]
)
def test_recorded_steps_train_to_the_last_bit_as_steps_that_are_called(kind: str, tmp_path: Path) -> None:
    called, recorded = run_of(tmp_path, *KINDS[kind]), run_of(tmp_path, *KINDS[kind])
    tape = Tape()
    graphs.use(recorded.training, tape)
    assert trained(recorded) == trained(called)
    acts = kind not in PLAIN  # whether a sampler is recorded too, which is called in each of 16 steps
    assert tape.recordings == 4 + acts  # two forms of minibatch, 22 and 20 rows, each with and without metrics
    assert tape.replays == 3 * (2 * 3 + 16 * acts)
    assert not difference(*(run.training.learner.state_dict() for run in (called, recorded)))
    for run in (called, recorded):
        run.close()


def test_a_resumed_learner_records_its_steps_again(tmp_path: Path) -> None:
    """Loading puts other tensors in the place of Adam's moments; a recording would go on with those of before."""
    one, other = run_of(tmp_path, *FPO), run_of(tmp_path, *FPO)
    one.training.learner.record_steps(Tape())
    trained(one, 1)
    state: dict[str, Any] = copy.deepcopy(one.training.learner.state_dict())
    rollout = one.training.collect()
    expected = one.training.learner.update(*rollout)
    other.training.learner.record_steps(Tape())
    trained(other, 2)
    other.training.learner.load_state_dict(state)
    assert other.training.learner.update(*rollout) == expected
    for run in (one, other):
        run.close()


@pytest.mark.parametrize("recorded_first", [True, False])
def test_a_run_goes_on_to_the_last_bit_with_or_without_recordings(recorded_first: bool, tmp_path: Path) -> None:
    """With a moving average of the weights, which follows what the steps have changed."""
    settings = (*KINDS["mixture"], "learner.ema_decay=0.9")
    one, other = run_of(tmp_path, *settings), run_of(tmp_path, *settings)
    first = one if recorded_first else other
    graphs.use(first.training, Tape())
    trained(one, 2)
    other.restore(copy.deepcopy(one.content(0)))
    assert trained(one, 2) == trained(other, 2)
    assert not difference(*(run.training.learner.state_dict() for run in (one, other)))
    for run in (one, other):
        run.close()


def test_a_copy_of_a_learner_learns_as_the_learner_does(tmp_path: Path) -> None:
    run = run_of(tmp_path, *FPO)
    trained(run, 1)
    other, rollouts = copy.deepcopy(run.training.learner), run.training.collect()
    assert other.update(*rollouts) == run.training.learner.update(*rollouts)
    assert not difference(other.state_dict(), run.training.learner.state_dict())
    run.close()


def test_a_checkpoint_with_graphs_is_evaluated_and_measured_where_there_is_no_gpu(tmp_path: Path) -> None:
    run = run_of(tmp_path, *FPO)
    trained(run, 1)
    content = run.content(0)
    run.close()
    content["config"] |= {"device": "cuda", "learner": content["config"]["learner"] | {"graph": True}}
    file = tmp_path / "ckpt.pt"
    checkpoint.save(file, content)
    assert flowrl.evaluate(file, episodes=1)["episodes"] == 1
    assert flowrl.evaluate(file, overrides=["device=cpu", "sampler.steps=2"], episodes=1)["episodes"] == 1
    asked = {"updates": 1, "actions": 64, "probes": [1], "weightings": ["u"], "seed": 0}
    assert ratio_study.study(file, **asked).rows  # type: ignore[arg-type]


def test_a_recording_alone_changes_no_weight(tmp_path: Path) -> None:
    """The calls before a recording, and the recording itself, are made without effect: as many steps as replays."""
    run = run_of(tmp_path, *FPO)
    run.training.learner.record_steps(Tape())
    trained(run, 1)
    counts = {int(each["step"]) for each in run.training.learner.optimizer.state.values()}
    assert counts == {2 * 3}
    run.close()


def test_a_step_that_reads_a_value_is_noticed(tmp_path: Path) -> None:
    run = run_of(tmp_path, *FPO)
    learner = run.training.learner

    def reads(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
        return log_ratio * advantage if float(log_ratio.detach().mean()) < 10 else log_ratio

    learner._surrogate = reads
    learner.record_steps(Tape())
    with pytest.raises(AssertionError, match="reads a value"):
        trained(run, 1)
    run.close()


def test_a_gradient_that_is_not_finite_ends_a_recorded_update_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, *FPO)
    learner = run.training.learner
    learner.record_steps(Tape())
    trained(run, 1)
    (rollout,) = run.training.collect()
    rollout.obs[0, 0] = torch.nan
    with pytest.raises(Diverged, match="gradient is not finite"):
        learner.update(rollout)
    run.close()


REFUSED = {
    ("learner.graph=true",): "the networks are not on a GPU (device: cpu). Type --set device=cuda",
    ("learner.graph=true", "device=cuda", "shards=2"): "records the step of one shard, and shards is 2",
    ("learner.graph=Auto",): "expected true, false or auto, got \"Auto\" (text). Did you mean 'auto'?",
    ("learner.graph=no",): 'expected true, false or auto, got "no" (text). Write false.',
    ('learner.graph="true"',): 'got "true" (text). Write true without quotes.',
}


@pytest.mark.parametrize("settings", REFUSED)
def test_graphs_that_there_cannot_be_are_refused(settings: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        run_of(tmp_path, *settings)
    assert REFUSED[settings] in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is here")
def test_graphs_on_a_gpu_that_is_not_found_are_refused_and_auto_goes_without(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the networks are not on a GPU .*--set learner.graph=auto"):
        run_of(tmp_path, "learner.graph=true", "device=auto")
    run = run_of(tmp_path, "learner.graph=auto", "device=auto")
    assert run.training.learner._recorded_step is None
    run.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_graphs_train_as_steps_that_are_called(kind: str, tmp_path: Path) -> None:
    """On a GPU, where libraries may choose other kernels within a recording: equal up to the rounding of sums in the
    first update, but for the shares, which count rows."""
    runs = [run_of(tmp_path, *KINDS[kind], "device=cuda", f"learner.graph={graph}") for graph in ("true", "false")]
    one, other = (trained(run, 1)[0] for run in runs)
    names = [name for name in one if not name.endswith("_share")]
    assert [one[name] for name in names] == pytest.approx([other[name] for name in names], rel=1e-3, abs=1e-4)
    for run in runs:
        run.close()
