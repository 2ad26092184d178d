"""Numbers that are not finite: at once on the CPU, at the next look on a GPU."""

from __future__ import annotations

import pytest
import torch

from flowrl.envs.finite import LOOK, FiniteCheck, NotFinite


def test_what_is_deferred_is_noticed_at_the_next_look_and_once() -> None:
    check = FiniteCheck("Env-v0", deferred=True)
    bad = torch.tensor([0.0, torch.inf])
    check("reward", torch.zeros(2), 1)
    check("reward", bad, 2)
    check("reward", torch.zeros(2), 3)
    check.look(LOOK - 1)
    with pytest.raises(NotFinite, match=rf"Env-v0: the reward of an environment .* last {LOOK} steps"):
        check.look(LOOK)
    check("reward", torch.zeros(2), LOOK + 1)
    check.look(2 * LOOK)


def test_on_the_cpu_it_is_noticed_at_once_with_its_row() -> None:
    check = FiniteCheck("Env-v0")
    fine = torch.full((2,), 3e38)  # whose sum overflows
    assert check("reward", fine, 1) is fine
    with pytest.raises(NotFinite, match=r"environment 1 is not finite \(step 2 after the reset\)"):
        check("reward", torch.tensor([0.0, torch.nan]), 2)
