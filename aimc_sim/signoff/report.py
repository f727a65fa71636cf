"""The report of a sign-off: one document, written as report.json and shown as report.html (docs/signoff.md)."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.account import arithmetic, notes_on
from aimc_sim.evaluate.metrics import WindowScores
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.plan import Plan
from aimc_sim.signoff.run import Result
from aimc_sim.signoff.statistics import Estimate
from aimc_sim.signoff.verdict import METRICS, AtTime, Verdict, at_times, decide, effect
from aimc_sim.spec import finite_json
from aimc_sim.units import format_duration

if TYPE_CHECKING:
    from aimc_sim.weightfile import WeightFile

SCHEMA_VERSION = 1
YIELD_NOTE = (
    "The chips differ by the noise of their cells only: this hardware has no faults, no errors of converters and no "
    "variation of dies, so whatever share of chips passes here is a yield of cell noise only."
)
_VERSIONS = ("numpy", "numba", "scipy", "torch", "transformers")


def _yield_note(hardware: Hardware) -> str:
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
    result: Result, *, weight_file: WeightFile | None = None, command: str = ""
) -> dict[str, Any]:
    """The report as plain data, keys in a fixed order. Everything but ``timings`` is the same when run again."""
    plan = result.plan
    times = at_times(result)
    verdict = decide(plan, times)
    return {
        "format": "aimc-sim sign-off",
        "schema_version": SCHEMA_VERSION,
        "verdict": _verdict(plan, verdict),
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
        "coverage": result.coverage.to_dict(),
        "notes": [
            _yield_note(Hardware.load(plan.hardware)),
            *([verdict.worst.gate.loss.caveat] if verdict.worst.gate.loss.caveat else []),
            *notes_on(Hardware.load(plan.hardware)),
        ],
        "provenance": _provenance(plan, weight_file),
        "command": command,
        "windows": _per_window(result),
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
    }


def describe_text(plan: Plan) -> str:
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


def write_together(pages: Mapping[Path, str]) -> None:
    """Write texts into files: all complete under other names first, then all renamed."""
    written: dict[Path, Path] = {}
    try:
        for path, text in pages.items():
            written[path] = _write_beside(path, text)
        for path, partial in written.items():
            os.replace(partial, path)
    finally:
        for partial in written.values():
            partial.unlink(missing_ok=True)


def to_json(document: dict[str, Any]) -> str:
    """JSON text with the document's own order of keys; numbers that are not finite become null."""
    return json.dumps(finite_json(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def prepare_folder(folder: Path) -> None:
    """Create the output folder and make sure that it can be written, before hours are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            "output folder",
            got=str(folder),
            why=f"it cannot be written ({error.strerror})",
            do="choose another with -o",
        ) from None


def _write_beside(path: Path, text: str) -> Path:
    """Write `text` to a new file in the same folder, synced, and return its path."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        return Path(name)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(
                path.name, got=str(path.parent), why="the disk is full", do="free some space"
            ) from None
        raise


def _verdict(plan: Plan, verdict: Verdict) -> dict[str, Any]:
    worst = verdict.worst
    found = effect(plan, worst)
    return {
        "pass": verdict.passed,
        "outcome": "pass" if verdict.passed else "fail",
        "undecided": worst.gate.straddles,
        "summary": verdict.summary,
        "metric": plan.metric,
        "metric_name": METRICS[plan.metric],
        "unit": "nats per token",
        "margin": plan.margin_nats,
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


def _estimate(value: Estimate, clip: Callable[[float], float] = float) -> dict[str, Any]:
    return {
        "mean": value.mean,
        "interval_95": _bounds(value.interval, clip),
        "variance": {
            "chip": value.components.chip,
            "item": value.components.item,
            "interaction": value.components.interaction,
        },
    }


def _at_time(plan: Plan, at: AtTime, digital: WindowScores) -> dict[str, Any]:
    return {
        "time": format_duration(at.time_s),
        "time_s": at.time_s,
        "pass": at.gate.passed,
        "upper_bound": at.gate.bound,
        "perplexity": {"mean": at.perplexity, "interval_95": _bounds(at.perplexity_interval)},
        "kl_nats": _estimate(at.kl, _not_negative),
        "loss_increase_nats": _estimate(at.loss_increase),
        "agreement": _estimate(at.agreement, lambda bound: min(max(bound, 0.0), 1.0)),
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


def _per_window(result: Result) -> dict[str, Any]:
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


def _provenance(plan: Plan, weight_file: WeightFile | None) -> dict[str, Any]:
    device = plan.hardware.get("device", {})
    return {
        "weight_file": None if weight_file is None else weight_file.path.name,
        "weights": plan.weights,
        "architecture": None if weight_file is None else _architecture(weight_file.config),
        "source": None if weight_file is None else weight_file.provenance,
        "hardware": plan.hardware.get("name"),
        "hardware_id": plan.hardware_id,
        "ranges_id": plan.ranges_id,
        "arithmetic": arithmetic(Hardware.load(plan.hardware)),
        "device": device.get("name") if isinstance(device, dict) else device,
        "device_source": device.get("source") if isinstance(device, dict) else None,
        "versions": {
            "aimc-sim": _version("aimc-sim"),
            "python": platform.python_version(),
            **{name: _version(name) for name in _VERSIONS},
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _architecture(config: dict[str, Any]) -> str:
    named = config.get("architectures") or [config.get("model_type", "unknown")]
    return str(named[0])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
