"""Memory is estimated from the configuration, and what does not fit is refused with the key."""

import resource
from pathlib import Path

import pytest
import torch

from flowrl.config import recipe
from flowrl.config.schema import Config, load
from flowrl.contracts.errors import UsageError
from flowrl.experiments import memory
from flowrl.experiments.build import make_actor


def config(*overrides: str) -> Config:
    return load(recipe.apply(recipe.read("gridworld.yaml"), list(overrides)))


def refused(*overrides: str, free: float, monkeypatch: pytest.MonkeyPatch) -> str:
    """The message for a training of observations of 4 and actions of 2 numbers, where `free` bytes are available."""
    monkeypatch.setattr(memory, "available", lambda: free)
    with pytest.raises(UsageError) as error:
        memory.check_training(config(*overrides), 4, 2)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("learner.probes.count=10000", "learner.probes.count"),
        ("rollout.steps=1000000", "rollout.steps"),
        ("env.count=1000000", "env.count"),
        ("policy.hidden=[65536,65536]", "policy.hidden"),
        ("learner.critic.hidden=[65536,65536]", "learner.critic.hidden"),
    ],
)
def test_the_key_of_the_largest_share_is_named_with_a_value_that_fits(
    override: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["rollout.steps=64", "env.count=64", "learner.microbatch=64"]
    message = refused(*small, override, free=3e8, monkeypatch=monkeypatch)
    assert message.startswith(f"{override}: the training would need about ")
    assert "300 MB are available here" in message
    fitting = message.partition("Type --set ")[2].removesuffix(" or less.")
    assert fitting.startswith(f"{key}=")
    memory.check_training(config(*small, fitting), 4, 2)  # what the message advises


def test_the_shares_are_the_sizes_of_the_tensors() -> None:
    shares = memory.update(config("env.count=10", "rollout.steps=20", "learner.probes.count=7"), 4, 2)
    sizes = {share.what: share.bytes for share in shares}
    # 200 actions with 7 pairs of a time and 2 numbers of noise, a loss, and 2 temporary numbers; 4 bytes each
    assert sizes["(time, noise) pairs of all actions of a rollout"] == 200 * 7 * (2 + 4) * 4
    # per transition: 5 arrays of observations, 2 of actions, 12 of single numbers
    assert sizes["the transitions of a rollout"] == 200 * (5 * 4 + 2 * 2 + 12) * 4


def test_a_network_is_estimated_at_its_parameters() -> None:
    settings = config("policy.hidden=[33,17]")
    actor = make_actor(settings, 4, 2)
    parameters = sum(weight.numel() for weight in actor.parameters())
    share = memory.actor(settings, 4, 2, copies=1)
    largest = max(weight.numel() for weight in actor.parameters())
    assert share.bytes == 4 * (parameters + 3 * largest)


def test_a_policy_that_does_not_fit_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match=r"policy.hidden=\[65536,65536,65536.*Type --set policy.hidden="):
        make_actor(config(f"policy.hidden={[65536] * 64}"), 4, 2)


def test_workers_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1e9)
    with pytest.raises(UsageError, match=r"env\.count=1000.*worker processes.*Type --set env\.count=\d+ or less"):
        memory.check_environments(config("env.id=Pendulum-v1", "env.mode=async", "env.count=1000"))
    monkeypatch.setattr(memory, "process_limit", lambda: (10, "a limit allows"))
    with pytest.raises(UsageError, match=r"env\.count=11.*only 10 more here.*env\.mode=sync"):
        memory.check_environments(config("env.id=Pendulum-v1", "env.mode=async", "env.count=11"))
    memory.check_environments(config("env.id=Pendulum-v1", "env.mode=async", "env.count=10"))


def test_threads_beyond_a_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.check_threads("threads=", 1)
    monkeypatch.setattr(memory, "process_limit", lambda: (100, "a limit allows"))
    memory.check_threads("threads=", 100)
    with pytest.raises(UsageError, match=r"threads=1024: a limit allows only 100 more here. Type --set threads=\d+\."):
        memory.check_threads("threads=", 1024)


def test_the_limit_of_the_address_space_counts() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = memory.available()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, hard))
    try:
        assert 0.9e9 < memory.available() <= 1e9 < before
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert torch.zeros(1).item() == 0
