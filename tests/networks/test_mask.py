"""Hidden entries of an observation do not change a network's output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowrl.config import recipe
from flowrl.config.schema import load
from flowrl.experiments.build import Run, load_policy, make_actor, make_policy
from flowrl.networks.critic import Critic, CriticSettings
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise

VISIBLE = torch.tensor([True, False, True, True, False, True])
HIDDEN = [1, 4]
SHORT = ["env.count=4", "env.motions=gait:step", "env.threads=1", "threads=1", "rollout.steps=4"]


def other_where_hidden(obs: torch.Tensor) -> torch.Tensor:
    changed = obs.clone()
    changed[:, HIDDEN] += torch.tensor([5.0, -7.0])
    return changed


@pytest.mark.parametrize("algorithm", ["fpo", "fpo++", "ppo"])
def test_no_hidden_entry_changes_an_action(algorithm: str) -> None:
    """To the last bit, with statistics of its own for every entry; and every visible one does change it."""
    config = load(recipe.apply(recipe.read("cheetah.yaml"), [f"algorithm={algorithm}"]))
    torch.manual_seed(0)
    actor = make_actor(config, 6, 2, VISIBLE)
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    normaliser = Normaliser(6)
    normaliser.update(torch.randn(100, 6) * 3 + 1)
    policy = make_policy(actor, normaliser, config, Noise(2, "zero", 0), training=False)
    obs = torch.randn(16, 6)
    assert torch.equal(policy(obs), policy(other_where_hidden(obs)))
    for index in VISIBLE.nonzero().flatten():
        moved = obs.clone()
        moved[:, index] += 1
        assert not torch.equal(policy(obs), policy(moved))


def test_a_masked_critic_is_blind_to_it_and_a_full_one_is_not() -> None:
    obs = torch.randn(8, 6)
    blind, seeing = Critic(6, CriticSettings(), VISIBLE), Critic(6, CriticSettings())
    assert torch.equal(blind(obs), blind(other_where_hidden(obs)))
    assert not torch.equal(seeing(obs), seeing(other_where_hidden(obs)))


def test_the_mask_is_part_of_the_saved_network() -> None:
    config = load(recipe.read("cheetah.yaml"))
    weights = make_actor(config, 6, 2, VISIBLE).state_dict()
    assert torch.equal(weights["mask.visible"], VISIBLE.float())
    assert "mask.visible" not in make_actor(config, 6, 2).state_dict()
    again = make_actor(config, 6, 2, weights["mask.visible"])
    again.load_state_dict(weights)
    field, obs = again, torch.randn(3, 6)
    x = torch.zeros(3, 2)
    assert torch.equal(field.bind(obs)(x, 0.5), field.bind(other_where_hidden(obs))(x, 0.5))  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["fpo", "fpo++", "ppo"])
@pytest.mark.parametrize(("name", "seen"), [("humanoid-root", 285), ("humanoid-root-hands", 297)])
def test_a_runs_policy_is_masked_and_its_critic_is_not(algorithm: str, name: str, seen: int) -> None:
    """All the wiring, from the recipe to the policy of a checkpoint, after an update."""
    config = load(recipe.apply(recipe.read(f"{name}.yaml"), [f"algorithm={algorithm}", *SHORT]))
    run = Run(config)
    run.start()
    hidden = ~torch.as_tensor(run.env.policy_mask)
    assert int((~hidden).sum()) == seen
    rollout = run.training.collectors[0].collect(4)
    run.training.learner.update(rollout)
    policy = load_policy(Path("ckpt.pt"), run.content(0), config.model_copy(update={"noise": "zero"})).policy
    obs = rollout.obs.flatten(0, 1)
    changed = obs.clone()
    changed[:, hidden] += 1000 * torch.randn(changed[:, hidden].shape)
    assert torch.equal(policy(obs), policy(changed))
    learner = run.training.learner
    values = [learner.critic(learner.normaliser(each)) for each in (obs, changed)]
    assert not torch.equal(*values)


def test_a_critic_is_masked_on_demand() -> None:
    settings = ["algorithm=ppo", "learner.critic_goal=masked", *SHORT]
    run = Run(load(recipe.apply(recipe.read("humanoid-root.yaml"), settings)))
    run.start()
    obs = torch.randn(8, 667)
    changed = obs.clone()
    changed[:, ~torch.as_tensor(run.env.policy_mask)] += 3
    assert torch.equal(run.training.learner.critic(obs), run.training.learner.critic(changed))
