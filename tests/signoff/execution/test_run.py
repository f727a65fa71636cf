"""Trials in, figures and a verdict out; and the real road on a tiny model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.text import SelfText, file_text
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.trials import trials_of
from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.execution.run import run_plan
from aimc_sim.signoff.report.findings import alone
from aimc_sim.signoff.report.judgement import AtTime, Judgement
from aimc_sim.weightfile import WeightFile


def decided(result: Result) -> Judgement:
    return alone(result).verdict


def at_times(result: Result) -> tuple[AtTime, ...]:
    return alone(result).times


def test_every_trial_is_asked_once_and_progress_is_whole(plan_with: Any, fake: Any) -> None:
    plan, bench = plan_with(), fake.FakeBench()
    steps: list[tuple[str, int, int]] = []
    result = fake.run_fake(plan, bench, lambda *step: steps.append(step))
    assert tuple(bench.asked) == trials_of(plan)
    assert [done for _, done, _ in steps] == list(range(1, 21))
    assert {total for _, _, total in steps} == {20}
    assert {(c.kind, c.seed, c.time_s) for c in result.scores} == {
        (c.kind, c.seed, c.time_s) for c in trials_of(plan)
    }


def test_figures_are_those_of_the_scores(plan_with: Any, fake: Any) -> None:
    plan = plan_with()
    result = fake.run_fake(plan)
    for at in at_times(result):
        expected = 0.2 + 0.05 * math.log10(at.time_s + 1) + 0.015 + 0.05
        assert at.figures["kl_nats"].mean == pytest.approx(expected)
        assert at.figures["loss_increase_nats"].mean == pytest.approx(expected / 2)
        assert at.figures["perplexity"].mean == pytest.approx(math.exp(3.0 + expected / 2))
        low, high = at.figures["perplexity"].interval
        assert low < at.figures["perplexity"].mean < high
        assert at.figures["kl_nats"].components.chip == pytest.approx(np.var([0.0, 0.01, 0.02, 0.03], ddof=1))
        assert at.figures["kl_nats"].components.item == pytest.approx(np.var(0.02 * np.arange(6), ddof=1))


def test_the_worst_time_decides(plan_with: Any, fake: Any) -> None:
    plan = plan_with()
    verdict = decided(fake.run_fake(plan))
    assert verdict.passed
    assert verdict.worst.time_s == 86400.0
    assert verdict.summary.startswith("After 1 day, the worst of 2 times, the mean KL divergence")
    assert "within the margin of 0.6" in verdict.summary


@pytest.mark.parametrize(
    ("margin", "says"),
    [(0.3, "beyond the margin of 0.3"), (0.52, "Not shown to be within the margin of 0.52")],
)
def test_failing_says_why(plan_with: Any, fake: Any, margin: float, says: str) -> None:
    plan = plan_with(margin_nats=margin)
    verdict = decided(fake.run_fake(plan))
    assert not verdict.passed
    assert says in verdict.summary
    assert verdict.worst.gate.straddles == (margin == 0.52)


def test_loss_is_another_metric(plan_with: Any, fake: Any) -> None:
    plan = plan_with(metric="loss", margin_nats=0.3)
    verdict = decided(fake.run_fake(plan))
    assert verdict.worst.gate.loss.mean == pytest.approx(verdict.worst.figures["kl_nats"].mean / 2)
    assert verdict.passed
    assert "increase of the loss" in verdict.summary


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> WeightFile:
    return WeightFile(tiny_weights)


def real_plan(plan_with: Any, weights: WeightFile, **changes: Any) -> Any:
    return plan_with(
        **{
            "weights": weights.id,
            "hardware": weights.hardware,
            "chips": 2,
            "text": SelfText(sequences=3, length=10),
            "batch": 2,
            **changes,
        }
    )


def test_a_real_study_repeats_and_seeds_tell_chips_apart(plan_with: Any, weights: WeightFile) -> None:
    plan = real_plan(plan_with, weights)
    first, again = run_plan(plan, weights).only, run_plan(plan, weights).only
    assert len(first.scores) == len(trials_of(plan))
    for trial, scores in first.scores.items():
        assert np.array_equal(scores.nll, again.scores[trial].nll)
    assert first.digital.kl_nats == 0.0
    assert first.converters.kl_nats is not None
    assert first.chip(0, 60.0).kl_nats != first.chip(1, 60.0).kl_nats
    assert first.coverage.static_share == 1.0
    # Common random numbers: a study of one of the chips finds the same scores.
    alone = run_plan(real_plan(plan_with, weights, chips=1, seed=1, times_s=(86400.0,)), weights).only
    assert np.array_equal(alone.chip(1, 86400.0).nll, first.chip(1, 86400.0).nll)


def test_ideal_hardware_loses_nothing(plan_with: Any, weights: WeightFile) -> None:
    plan = real_plan(plan_with, weights, hardware=Hardware.load("ideal"), times_s=(0.0,), margin_nats=1e-4)
    result = run_plan(plan, weights).only
    assert decided(result).passed


def test_a_text_file_is_checked_against_the_plan(plan_with: Any, weights: WeightFile, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("all the same words again " * 4)
    plan = real_plan(plan_with, weights, chips=1, times_s=(60.0,), text=file_text(text), context=32)
    assert run_plan(plan, weights, text_path=text).only.windows.scored_tokens == 96
    text.write_text("other words")
    with pytest.raises(BadInput, match="text file"):
        run_plan(plan, weights, text_path=text)
    with pytest.raises(BadInput, match="weight file"):
        run_plan(plan_with(), weights)


def test_a_refused_study_leaves_no_journal(plan_with: Any, weights: WeightFile, tmp_path: Path) -> None:
    """One that stayed would refuse the corrected command, as another plan's."""
    text = tmp_path / "t.txt"
    text.write_text("abc " * 200)
    journal = tmp_path / "out" / "journal.sqlite"
    (tmp_path / "out").mkdir()
    alike = {"chips": 1, "times_s": (60.0,), "text": file_text(text)}
    wrong = real_plan(plan_with, weights, **alike, context=10**6)
    with pytest.raises(BadInput, match="positions end at"):
        run_plan(wrong, weights, text_path=text, journal=journal)
    assert not journal.exists()
    run_plan(real_plan(plan_with, weights, **alike, context=32), weights, text_path=text, journal=journal)
    with pytest.raises(BadInput, match="another plan"):
        run_plan(wrong, weights, text_path=text, journal=journal)
    assert journal.exists(), "with finished trials it stays"


def test_matrices_left_digital_are_in_the_coverage(plan_with: Any, weights: WeightFile) -> None:
    hardware = Hardware.load("hermes-256").model_copy(
        update={
            "placement": Hardware.load({"device": "ideal", "placement": {"lm_head": "digital"}}).placement
        }
    )
    plan = real_plan(plan_with, weights, hardware=hardware, chips=1, times_s=(60.0,))
    coverage = run_plan(plan, weights).only.coverage
    assert [row.name for row in coverage.rows if row.kind == "digital by choice"] == ["lm_head"]


def test_a_plan_is_completed_by_its_converter_ranges_and_holds_to_them(
    plan_with: Any, weights: WeightFile
) -> None:
    plan = real_plan(plan_with, weights, chips=1, times_s=(60.0,))
    assert plan.variants[0].ranges_id is None
    completed = run_plan(plan, weights).plan
    assert completed.variants[0].ranges_id
    assert completed.id != plan.id
    assert run_plan(completed, weights).plan == completed
    other = completed.with_ranges({"hermes-256": "0" * 16})
    with pytest.raises(BadInput, match="converter ranges"):
        run_plan(other, weights)
