"""The report of a sign-off: one document, written as report.json and shown as report.html (docs/signoff.md)."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.evaluate.account import arithmetic, notes_on
from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.hardware import Hardware
from aimc_sim.report_parts.pages import VERSIONS, architecture, version, write_together
from aimc_sim.report_parts.pages import prepare_folder as prepare_folder
from aimc_sim.report_parts.pages import to_json as to_json
from aimc_sim.signoff.findings import Findings, alone
from aimc_sim.signoff.plan import Part, TextPart
from aimc_sim.signoff.results import AnswersResult, Result, TextResult
from aimc_sim.signoff.statistics import Estimate
from aimc_sim.signoff.verdict import AtTime, Verdict, effect, text_at_times
from aimc_sim.units import format_duration

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile

SCHEMA_VERSION = 1
YIELD_NOTE = (
    "The chips differ by the noise of their cells only: this hardware has no faults, no errors of converters and no "
    "variation of dies, so whatever share of chips passes here is a yield of cell noise only."
)


def yield_note(hardware: Hardware) -> str:
    """What a share of passing chips stands for on this hardware."""
    dac, adc = hardware.dac, hardware.adc
    varies = {
        "faults": hardware.faults is not None,
        "errors of converters": any(part is not None and part.errors is not None for part in (dac, adc)),
        "variation of dies": hardware.variation is not None,
    }
    if not any(varies.values()):
        return YIELD_NOTE
    there = " and ".join(name for name, on in varies.items() if on)
    absent = [name for name, on in varies.items() if not on]
    rest = f"; without {' or '.join(absent)}, which this hardware does not describe" if absent else ""
    return f"The chips differ by the noise of their cells and by {there}{rest}."


def document_of(
    result: Result,
    *,
    weight_file: WeightFile | None = None,
    command: str = "",
    findings: Findings | None = None,
) -> dict[str, Any]:
    """The report as plain data, keys in a fixed order. Everything but ``timings`` is the same when run again.

    findings: of this result among others of its study; by default those of the result alone.
    """
    found = alone(result) if findings is None else findings
    if isinstance(result, AnswersResult):
        from aimc_sim.signoff.report_answers import document_of_answers

        return document_of_answers(result, found, weight_file=weight_file, command=command)
    plan, times, verdict = result.plan, text_at_times(result), found.verdict
    return {
        "format": "aimc-sim sign-off",
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict_of(plan, verdict),
        "plan": {"id": plan.id, **plan.model_dump(mode="json")},
        "text": {
            "id": result.windows.id,
            "windows": len(result.windows),
            "scored_tokens": result.windows.scored_tokens,
            "description": describe_text(plan),
        },
        "rows": {
            "digital": _scores(result.digital, result.digital),
            "converters_only": _scores(result.converters, result.digital),
            "times": [_at_time(plan, at, result.digital) for at in times],
        },
        "statistics": found.to_dict(),
        "coverage": result.coverage.to_dict(),
        "notes": [
            yield_note(Hardware.load(plan.hardware)),
            *([verdict.worst.gate.loss.caveat] if verdict.worst.gate.loss.caveat else []),
            *notes_on(Hardware.load(plan.hardware)),
        ],
        "provenance": provenance_of(plan, weight_file),
        "command": command,
        "windows": _per_window(result),
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
    }


def describe_text(plan: TextPart) -> str:
    """What was scored, in words."""
    text = plan.text
    if text.kind == "self":
        return (
            f"{text.sequences} samples of {text.length} tokens from the digital model itself "
            f"(temperature {text.temperature:g}, seed {text.seed})"
        )
    limit = f", its first {text.limit_tokens:,} tokens" if text.limit_tokens else ""
    return f"{text.name}{limit}, in windows of {plan.context:,} tokens"


def write(document: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `folder`: both complete under other names first, then both renamed."""
    from aimc_sim.signoff.html import render

    pages = {folder / "report.json": to_json(document), folder / "report.html": render(document)}
    write_together(pages)
    return folder / "report.json", folder / "report.html"


def verdict_of(plan: Part, verdict: Verdict) -> dict[str, Any]:
    worst = verdict.worst
    found = effect(plan, worst)
    return {
        "pass": verdict.passed,
        "outcome": "pass" if verdict.passed else "fail",
        "undecided": worst.gate.straddles,
        "summary": verdict.summary,
        "metric": plan.metric,
        "metric_name": plan.metric_name,
        "unit": plan.unit,
        "margin": plan.margin,
        "alpha": plan.alpha,
        "worst_time": format_duration(worst.time_s),
        "worst_time_s": worst.time_s,
        "mean": found.mean,
        "interval_95": _bounds(found.interval, _not_negative if plan.metric == "kl" else float),
        "upper_bound": worst.gate.bound,
        "chips": found.chips,
        "items": found.items,
        "caveat": found.caveat,
    }


def _bounds(interval: tuple[float, float], clip: Callable[[float], float] = float) -> list[float | None]:
    """Two bounds, or two nulls where one chip on one window gives no interval."""
    if math.isinf(interval[1]) and interval[0] in (-math.inf, 0.0):  # exp(-inf) is 0
        return [None, None]
    return [clip(bound) for bound in interval]


def _not_negative(bound: float) -> float:
    """A divergence is at least 0, whatever an interval around its mean says."""
    return max(bound, 0.0)


def estimate_of(value: Estimate, clip: Callable[[float], float] = float) -> dict[str, Any]:
    return {
        "mean": value.mean,
        "interval_95": _bounds(value.interval, clip),
        "variance": {
            "chip": value.components.chip,
            "item": value.components.item,
            "interaction": value.components.interaction,
        },
    }


def _at_time(plan: TextPart, at: AtTime, digital: WindowScores) -> dict[str, Any]:
    return {
        "time": format_duration(at.time_s),
        "time_s": at.time_s,
        "pass": at.gate.passed,
        "upper_bound": at.gate.bound,
        "perplexity": {"mean": at.perplexity, "interval_95": _bounds(at.perplexity_interval)},
        "kl_nats": estimate_of(at.kl, _not_negative),
        "loss_increase_nats": estimate_of(at.loss_increase),
        "agreement": estimate_of(at.agreement, lambda bound: min(max(bound, 0.0), 1.0)),
        "chips": [
            {"seed": seed, **_scores(chip, digital)} for seed, chip in zip(plan.seeds, at.chips, strict=True)
        ],
    }


def _scores(scores: WindowScores, digital: WindowScores) -> dict[str, Any]:
    return {
        "perplexity": scores.perplexity,
        "loss_nats": scores.loss,
        "loss_increase_nats": scores.loss - digital.loss,
        "kl_nats": scores.kl_nats,
        "agreement": scores.agreement,
    }


def _per_window(result: TextResult) -> dict[str, Any]:
    """Sums of every window: what a later comparison pairs on."""

    def sums(scores: WindowScores) -> dict[str, Any]:
        assert scores.kl is not None
        assert scores.agree is not None
        return {"nll": scores.nll.tolist(), "kl": scores.kl.tolist(), "agree": scores.agree.tolist()}

    return {
        "tokens": result.digital.tokens.tolist(),
        "digital": sums(result.digital),
        "converters_only": sums(result.converters),
        "chips": [
            {"seed": cell.seed, "time_s": cell.time_s, **sums(scores)}
            for cell, scores in result.scores.items()
            if cell.kind == "chip"
        ],
    }


def provenance_of(plan: Part, weight_file: WeightFile | None) -> dict[str, Any]:
    device = plan.hardware.get("device", {})
    return {
        "weight_file": None if weight_file is None else weight_file.path.name,
        "weights": plan.weights,
        "architecture": None if weight_file is None else architecture(weight_file.config),
        "source": None if weight_file is None else weight_file.provenance,
        "hardware": plan.hardware.get("name"),
        "hardware_id": plan.hardware_id,
        "ranges_id": plan.ranges_id,
        "arithmetic": arithmetic(Hardware.load(plan.hardware)),
        "device": device.get("name") if isinstance(device, dict) else device,
        "device_source": device.get("source") if isinstance(device, dict) else None,
        "versions": {
            "aimc-sim": version("aimc-sim"),
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONS},
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }
