"""A sign-off of models that go through memory layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import SelfText
from aimc_sim.signoff.design.tasks import HarnessTask
from aimc_sim.signoff.execution.bench import streams_plan
from aimc_sim.signoff.execution.run import run_plan
from aimc_sim.weightfile import WeightFile
from helpers.plans import make_plan


def test_a_sign_off_has_the_same_numbers_streamed(tiny_weights: Path) -> None:
    weights = WeightFile(tiny_weights)
    plan = make_plan(
        weights=weights.id, hardware=weights.hardware, chips=2, times_s=(3600.0, 86_400.0), margin_nats=0.5,
        text=SelfText(sequences=4, length=20), batch=2,
    )  # fmt: skip
    seen: list[tuple[str, int, int]] = []
    one = run_plan(plan, weights, stream="never").only
    other = run_plan(plan, weights, stream="always", progress=lambda *step: seen.append(step)).only
    assert (one.part, one.coverage) == (other.part, other.coverage)
    assert one.layers is not None
    assert one.layers == other.layers, "noise and saturation too, layer by layer and the head in pieces"
    assert len(one.scores) == len(other.scores) == 6
    for trial, mine in one.scores.items():
        theirs = other.scores[trial]
        for name in ("nll", "kl", "agree"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    # Of each trial the mount and two batches, however many layers it goes through.
    assert [step for step in seen if step[0] == "chips × times"] == [
        ("chips × times", done, 18) for done in range(1, 19)
    ]


def test_questions_are_not_streamed(tiny_weights: Path, plan_with: Any) -> None:
    weights = WeightFile(tiny_weights)
    text = plan_with(weights=weights.id)
    asked = HarnessTask(label="arc_easy", task="arc_easy", questions_id="0" * 16, questions=3, margin=0.1)
    both = text.model_copy(update={"tasks": (*text.tasks, asked)})
    assert streams_plan(text, weights, "always")
    assert not streams_plan(text, weights, "never")
    assert not streams_plan(both, weights, "auto")
    with pytest.raises(BadInput, match="arc_easy asks questions"):
        streams_plan(both, weights, "always")
