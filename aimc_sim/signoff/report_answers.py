"""The report of questions: accuracy, what it lost against the digital model, and which answers changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aimc_sim.evaluate.account import notes_on
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.findings import Findings
from aimc_sim.signoff.plan import AnswersPart
from aimc_sim.signoff.report import SCHEMA_VERSION, estimate_of, provenance_of, verdict_of, yield_note
from aimc_sim.signoff.results import AnswersResult
from aimc_sim.signoff.statistics import mcnemar
from aimc_sim.signoff.tasks import CellScores
from aimc_sim.signoff.verdict import AnswersAtTime, answers_at_times
from aimc_sim.units import format_duration

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile


def document_of_answers(
    result: AnswersResult, found: Findings, *, weight_file: WeightFile | None = None, command: str = ""
) -> dict[str, Any]:
    """The report as plain data, keys in a fixed order. Everything but ``timings`` is the same when run again."""
    plan, hardware = result.plan, Hardware.load(result.plan.hardware)
    caveat = found.verdict.worst.gate.loss.caveat
    return {
        "format": "aimc-sim sign-off",
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict_of(plan, found.verdict),
        "plan": {"id": plan.id, **plan.model_dump(mode="json")},
        "questions": {
            "id": plan.questions_id,
            "count": plan.questions,
            "description": describe_questions(plan),
            "examples": list(result.examples),
        },
        "rows": {
            "digital": _marks(result.digital, result.digital),
            "converters_only": _marks(result.converters, result.digital),
            "times": [_at_time(plan, at, result.digital) for at in answers_at_times(result)],
        },
        "statistics": found.to_dict(),
        "coverage": result.coverage.to_dict(),
        "notes": [yield_note(hardware), *([caveat] if caveat else []), *notes_on(hardware)],
        "provenance": provenance_of(plan, weight_file),
        "command": command,
        "answers": _per_question(result),
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
    }


def describe_questions(plan: AnswersPart) -> str:
    """What was asked, in words."""
    shots = "" if plan.num_fewshot is None else f", with {plan.num_fewshot} worked examples each"
    limit = "" if plan.limit is None else f" (at most {plan.limit:,} of each of its parts)"
    return f"{plan.questions:,} questions of {plan.task}{limit}{shots}, marked by {plan.metric}"


def _at_time(plan: AnswersPart, at: AnswersAtTime, digital: CellScores) -> dict[str, Any]:
    def share(bound: float) -> float:
        return min(max(bound, 0.0), 1.0)

    return {
        "time": format_duration(at.time_s),
        "time_s": at.time_s,
        "pass": at.gate.passed,
        "upper_bound": at.gate.bound,
        "loss": estimate_of(at.gate.loss),
        **{
            name: estimate_of(figure, share if figure.rates is not None else float)
            for name, figure in at.figures.items()
        },
        "chips": [
            {"seed": seed, **_marks(chip, digital)} for seed, chip in zip(plan.seeds, at.chips, strict=True)
        ],
    }


def _marks(scores: CellScores, digital: CellScores) -> dict[str, Any]:
    """Means over questions, and against the digital model: the loss, and marks that went down and up (for marks of
    right and wrong with McNemar's exact p-value, which speaks about this chip only)."""
    mine, theirs = scores.values["acc"], digital.values["acc"]
    binary = set(np.unique(np.concatenate([mine, theirs]))) <= {0, 1}
    return {
        **{name: float(np.mean(values)) for name, values in scores.values.items() if name != "choice"},
        "loss": float(np.mean(theirs - mine)),
        "lost": int(np.sum(mine < theirs)),
        "won": int(np.sum(mine > theirs)),
        "p_mcnemar": mcnemar(mine.astype(float), theirs.astype(float)).p_value if binary else None,
    }


def _per_question(result: AnswersResult) -> dict[str, Any]:
    """Marks of every question, in the order of the examples: what a later comparison pairs on."""
    return {
        "digital": result.digital.to_json(),
        "converters_only": result.converters.to_json(),
        "chips": [
            {"seed": cell.seed, "time_s": cell.time_s, **scores.to_json()}
            for cell, scores in result.scores.items()
            if cell.kind == "chip"
        ],
    }
