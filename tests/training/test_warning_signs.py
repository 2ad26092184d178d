"""Warnings about runs that are about to fail: each sign once, after it has lasted, and never for a healthy run."""

import itertools

import pytest

from flowrl.training.warning_signs import BEGINNING, PATIENCE, PATIENCE_CRITIC, PATIENCE_EXPLOSION, WarningSigns

HEALTHY = {"cfm_loss": 2.0, "clipped_share": 0.1, "explained_variance": 0.5, "action_spread": 1.0}
BAD = {
    "cfm_loss": (20.1, PATIENCE, "learner.loss_limit"),
    "action_spread": (0.0499, PATIENCE, "no longer explores"),
    "clipped_share": (0.95, PATIENCE, "raise learner.clip"),
    "explained_variance": (-5.1, PATIENCE_CRITIC, "learner.critic_learning_rate"),
}


def after_beginning() -> WarningSigns:
    signs = WarningSigns()
    for _ in range(BEGINNING):
        assert signs.add(HEALTHY) == []
    return signs


@pytest.mark.parametrize("name", BAD)
def test_a_sign_is_reported_once_after_it_has_lasted(name: str) -> None:
    value, patience, words = BAD[name]
    signs = after_beginning()
    bad = HEALTHY | {name: value}
    for _ in range(patience - 1):
        assert signs.add(bad) == []
    (line,) = signs.add(bad)
    assert words in line
    assert not any(signs.add(bad) for _ in range(3 * patience))
    assert not any(signs.add(each) for each in itertools.chain([HEALTHY], [bad] * patience))
    assert signs.warnings == [line]


@pytest.mark.parametrize("name", BAD)
def test_a_sign_that_does_not_last_is_not_reported(name: str) -> None:
    value, patience, _ = BAD[name]
    signs = after_beginning()
    for _ in range(5):
        assert not any(signs.add(HEALTHY | {name: value}) for _ in range(patience - 1))
        assert signs.add(HEALTHY) == []


@pytest.mark.parametrize(("name", "value"), [("cfm_loss", 19.9), ("action_spread", 0.0501), ("clipped_share", 0.89)])
def test_values_within_the_thresholds_are_healthy(name: str, value: float) -> None:
    signs = after_beginning()
    assert not any(signs.add(HEALTHY | {name: value}) for _ in range(10 * PATIENCE))


def test_metrics_that_a_policy_does_not_have_are_not_judged() -> None:
    signs = WarningSigns()
    assert not any(signs.add({"clipped_share": 0.2}) for _ in range(500))


def test_a_loss_that_explodes_is_warned_of_within_a_few_updates_and_once() -> None:
    signs = WarningSigns()
    losses = [2.0] * BEGINNING + [1.99 * 100, *[2.01 * 100] * 60]
    warned = [update for update, loss in enumerate(losses) if signs.add({"cfm_loss": loss})]
    assert warned == [BEGINNING + PATIENCE_EXPLOSION]


@pytest.mark.parametrize("healthy", [1, BEGINNING, 50])
def test_a_loss_that_overflows_soon_is_warned_of_at_once_even_in_the_beginning(healthy: int) -> None:
    signs = WarningSigns()
    losses = [2.0] * healthy + [1.99e4, 2.01e4, 3e4]
    warned = [update for update, loss in enumerate(losses) if signs.add({"cfm_loss": loss})]
    assert warned == [healthy + 1]
