"""Records of trials: an evaluation of one episode is complete, and what does not fit is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flowrl.evaluation.episodes import Evaluation, summary
from flowrl.experiments.suite import result
from flowrl.experiments.suite.trial import EvalSummary, TrialRecord


def evaluated(*returns: float) -> dict[str, Any]:
    count = len(returns)
    evaluation = Evaluation(
        np.array(returns), np.full(count, 5), np.full(count, np.nan), {}, np.full(count, ""), 1, 1.0
    )
    found = summary(evaluation, sampler="euler", steps=2, nfe=2.0, noise="random", noise_scale=1.0)
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def test_one_episode_has_a_return_without_an_interval() -> None:
    found = EvalSummary.model_validate(evaluated(7.25))
    assert (found.return_mean, found.return_std, found.return_ci95) == (7.25, None, [None, None])
    assert EvalSummary.model_validate(evaluated(1.0, 3.0)).return_std == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"return_mean": None}, "random return_mean is not finite"),
        ({"episodes": -1}, "random episodes: Input should be"),
    ],
)
def test_what_cannot_be_recorded_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TrialRecord.model_validate(
            {
                **{"flowrl": "0", "recipe": "a", "algorithm": "fpo", "seed": 0, "digest": "", "env_steps": 1},
                **{"config": {"env": {"id": "a", "options": {}}}, "seconds": 1.0, "env_steps_per_s": 1.0, "jobs": 1},
                **{"machine": {}, "episodes": 1, "evaluation_seed": 0},
                "evaluations": {"random": evaluated(7.25) | change},
            }
        )
    assert result._unrecordable(raised.value).startswith(words)
