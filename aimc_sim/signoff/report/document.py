"""The report of a sign-off as one document of plain data (docs/signoff.md); `files` writes it and its pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from aimc_sim.evaluate.account import arithmetic, notes_on
from aimc_sim.hardware import Hardware
from aimc_sim.report.provenance import provenance_of
from aimc_sim.signoff.design.margins import note_on
from aimc_sim.signoff.design.part import Part
from aimc_sim.signoff.design.trials import Trial
from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.report.figures import Figure, loss_in_words
from aimc_sim.signoff.report.findings import Findings, alone
from aimc_sim.signoff.report.judgement import AtTime
from aimc_sim.units import format_duration

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile

SCORED_BEFORE = "The trials were scored by {}; versions and machine are those that wrote this report."
FORMAT, SCHEMA_VERSION = "aimc-sim sign-off", 1
YIELD_NOTE = (
    "The chips differ by the noise of their cells only: this hardware has no faults, no errors of converters and no "
    "variation of dies, so whatever share of chips passes here is a yield of cell noise only."
)


def _yield_note(hardware: Hardware) -> str:
    """Say what a share of passing chips stands for on this hardware."""
    dac, adc = hardware.dac, hardware.adc
    varies = {
        "faults": hardware.faults is not None,
        "errors of converters": any(part is not None and part.errors is not None for part in (dac, adc)),
        "variation of dies": hardware.variation is not None,
    }
    if not any(varies.values()):
        return YIELD_NOTE
    causes = " and ".join(name for name, on in varies.items() if on)
    absent = [name for name, on in varies.items() if not on]
    rest = f"; without {' or '.join(absent)}, which this hardware does not describe" if absent else ""
    return f"The chips differ by the noise of their cells and by {causes}{rest}."


def document_of(
    result: Result,
    *,
    weight_file: WeightFile | None = None,
    command: str = "",
    findings: Findings | None = None,
) -> dict[str, Any]:
    """Return the report as plain data, keys in a fixed order. Everything but ``timings`` is the same when run again.

    findings: of this result among others of its study; by default those of the result alone.
    """
    part, hardware = result.part, result.part.variant.hardware
    judged = alone(result) if findings is None else findings
    figures, caveat = judged.figures, judged.verdict.worst.gate.loss.caveat
    wide = note_on(part.task.margin) if part.task.kind == "harness" else ""
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "verdict": _verdict(judged),
        "plan": {"id": part.id, **part.model_dump(mode="json")},
        **figures.about(),
        "rows": {
            "digital": figures.row(Trial("digital")),
            "converters_only": figures.row(Trial("converters")),
            "times": [_at_time(part, at) for at in judged.times],
        },
        "statistics": judged.to_dict(),
        "flips": figures.flips(judged.verdict.worst.time_s, judged.worst_seed),
        "previous": None,  # `previous.add_previous` fills it
        "layers": None if result.layers is None else result.layers.to_dict(),
        "coverage": result.coverage.to_dict(),
        "notes": [
            *([wide] if wide else []),
            *([SCORED_BEFORE.format(result.scored_by)] if result.scored_by else []),
            _yield_note(hardware),
            *([caveat] if caveat else []),
            *notes_on(hardware),
        ],
        "provenance": provenance_of(
            hardware,
            weights=part.weights,
            ranges_id=part.variant.ranges_id,
            arithmetic=arithmetic(hardware),
            weight_file=weight_file,
        ),
        "command": command,
        **figures.by_item(),
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
    }


def _verdict(findings: Findings) -> dict[str, Any]:
    part, verdict, worst = findings.result.part, findings.verdict, findings.verdict.worst
    measure, effect = findings.figures.measure, worst.gate.loss
    return {
        "pass": findings.passed,
        "outcome": "pass" if findings.passed else "fail",
        "undecided": worst.gate.straddles or (verdict.passed and not findings.passed),
        "summary": findings.summary,
        "metric": part.task.metric,
        "metric_name": loss_in_words(part.task.metric),
        "unit": measure.unit,
        "margin": part.task.margin,
        "alpha": part.alpha,
        "worst_time": format_duration(worst.time_s),
        "worst_time_s": worst.time_s,
        "mean": effect.mean,
        "interval_95": _bounds(worst.figures[measure.key].interval),
        "upper_bound": worst.gate.bound,
        "chips": effect.chips,
        "items": effect.items,
        "caveat": effect.caveat,
    }


def _bounds(interval: tuple[float, float]) -> list[float | None]:
    """Return two bounds, or two nulls where one chip on one item gives no interval."""
    if math.isinf(interval[1]) and interval[0] in (-math.inf, 0.0):  # exp(-inf) is 0
        return [None, None]
    return list(interval)


def _figure(value: Figure) -> dict[str, Any]:
    document: dict[str, Any] = {"mean": value.mean, "interval_95": _bounds(value.interval)}
    if value.components is not None:
        parts = value.components
        document["variance"] = {"chip": parts.chip, "item": parts.item, "interaction": parts.interaction}
    return document


def _at_time(part: Part, at: AtTime) -> dict[str, Any]:
    return {
        "time": format_duration(at.time_s),
        "time_s": at.time_s,
        "pass": at.gate.passed,
        "upper_bound": at.gate.bound,
        **{name: _figure(value) for name, value in at.figures.items()},
        "chips": [{"seed": seed, **row} for seed, row in zip(part.seeds, at.chips, strict=True)],
    }
