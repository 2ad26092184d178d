"""A captured state is a value, and it counts the steps."""

from __future__ import annotations

import numpy as np
import torch

from flowrl.envs import state_capture
from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings


def test_a_captured_array_does_not_change_with_the_environments() -> None:
    array = np.arange(3.0)
    captured = state_capture.Encoder().encode({"position": array})
    array += 10
    assert state_capture.Decoder().decode(captured)["position"].tolist() == [0, 1, 2]


def test_a_decoded_array_does_not_change_the_captured_state() -> None:
    captured = state_capture.Encoder().encode(np.arange(3.0))
    state_capture.Decoder().decode(captured)[:] = 7
    assert state_capture.Decoder().decode(captured).tolist() == [0, 1, 2]


def test_steps_are_counted_from_the_reset() -> None:
    """An inexact resume seeds its new episodes by them: uncounted, all resumes would play the same ones."""
    adapter = make(EnvSettings(id="Pendulum-v1", count=2))
    try:
        adapter.reset(seed=0)
        for number in range(1, 4):
            adapter.step(torch.zeros(2, 1))
            assert adapter.state()["steps"] == number
        adapter.reset(seed=1)
        assert adapter.state()["steps"] == 0
    finally:
        adapter.close()
