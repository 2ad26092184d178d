"""best.pt: it is chosen by, and evaluated with, the weights that acted; ckpt.pt with their moving average."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowrl.experiments import evaluate, train
from flowrl.experiments.build import load_config, load_policy
from flowrl.storage import checkpoint
from flowrl.training.loop import Best
from tests.equality import same

SHORT = ["total_steps=1024", "env.count=4", "rollout.steps=64", "env.options={max_episode_steps: 32}"]
AVERAGED = ["learner.ema_decay=0.9", "checkpoint.best_over=1", "learner.learning_rate=1e-2"]


def weights_in_use(path: Path) -> dict[str, torch.Tensor]:
    """Of the network with which the checkpoint's policy acts."""
    content = checkpoint.load(path)
    actor = load_policy(Path("ckpt.pt"), content, load_config(content, Path("ckpt.pt"))).policy.actor  # type: ignore[attr-defined]
    return dict(actor.state_dict())


def test_best_pt_is_evaluated_with_the_weights_that_acted_and_ckpt_pt_with_the_average(tmp_path: Path) -> None:
    planned = train.plan("pendulum.yaml", ["algorithm=ppo", *SHORT, *AVERAGED], None)
    folder = train.train(planned, tmp_path, "run", quiet=True).folder
    for name, used, other in (("best.pt", "actor", "average"), ("ckpt.pt", "average", "actor")):
        content = checkpoint.load(folder / name)
        assert not same(content["actor"], content["average"])
        assert same(weights_in_use(folder / name), content[used])
        assert not same(weights_in_use(folder / name), content[other])
    assert "evaluation_weights" not in checkpoint.load(folder / "ckpt.pt")

    # and so does the command: the same episodes as with a checkpoint that holds no average at all
    content = checkpoint.load(folder / "best.pt")
    average = content["average"]
    content["config"]["learner"]["ema_decay"] = content["average"] = None
    checkpoint.save(tmp_path / "acting.pt", content)
    checkpoint.save(tmp_path / "averaged.pt", {**content, "actor": average})
    request = evaluate.EvalRequest(episodes=4)
    found = [
        evaluate.evaluate_checkpoint(evaluate.open_checkpoint(path), request).summary()
        for path in (folder / "best.pt", tmp_path / "acting.pt", tmp_path / "averaged.pt")
    ]
    for each in found:
        del each["action_us"]
    assert found[0] == found[1] != found[2]


def test_a_run_continues_from_best_pt_with_its_average(tmp_path: Path) -> None:
    """What evaluates it is not what training goes on with: the average, too, is restored."""
    planned = train.plan("pendulum.yaml", ["algorithm=ppo", *SHORT, *AVERAGED], None)
    folder = train.train(planned, tmp_path, "run", quiet=True).folder
    content = checkpoint.load(folder / "best.pt")
    (folder / "ckpt.pt").unlink()
    planned = train.plan(None, [], folder / "best.pt")
    assert planned.content is not None
    assert same(planned.content["average"], content["average"])


def test_a_window_by_hand() -> None:
    """Episodes of a window weigh alike: 2 with -4 and 6 with 4 on average are (-8 + 24) / 8 = 2."""
    best = Best()
    best.add(-4.0, 2)
    best.add(4.0, 8)
    assert best.close() and best.best_return == 2
    # the next window begins at nothing: 3 episodes of 1, below the best
    best.add(1.0, 11)
    assert not best.close() and best.best_return == 2
    # no better, only as good
    best.add(2.0, 12)
    assert not best.close() and best.best_return == 2
    # nothing has ended
    best.add(0.0, 12)
    assert not best.close() and best.best_return == 2
    best.add(2.5, 14)
    assert best.close() and best.best_return == 2.5
    assert (best.window_return, best.window_episodes, best.episodes) == (0, 0, 14)


def test_a_first_window_without_episodes_is_not_the_best() -> None:
    best = Best()
    best.add(0.0, 0)
    assert not best.close()
    best.add(-1000.0, 1)
    assert best.close() and best.best_return == pytest.approx(-1000)
