"""The explanation as one document, written as explain.json, explain.html, effects.csv and matrices.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimc_sim.attribution import plots
from aimc_sim.attribution.clipping import of_matrix, of_roles
from aimc_sim.attribution.effects import context, dependents
from aimc_sim.attribution.layers import Ratios, by_role, ratios
from aimc_sim.attribution.run import Result
from aimc_sim.attribution.study import Study
from aimc_sim.attribution.waterfall import Figure, Row, Waterfall, waterfall
from aimc_sim.chip.ranges import needs_ranges
from aimc_sim.evaluate.snr import layer_of
from aimc_sim.files import write_together
from aimc_sim.hardware import StaticRange
from aimc_sim.report.html import page
from aimc_sim.report.pages import to_json
from aimc_sim.report.provenance import provenance_of
from aimc_sim.report.words import listed, nats, places, sig, spoken
from aimc_sim.units import format_duration
from aimc_sim.weightfile import WeightFile

TEMPLATE = Path(__file__).parent / "templates" / "explain.html.j2"
SCHEMA_VERSION = 1
SUMS = {"start": "step", "total": "total", "alone_sum": "alone", "interaction": "alone"}  # of a quantity each
QUANTITIES = ("step", "total", "alone", "won_back")
METRICS = ("kl_nats", "loss_increase_nats")


def document_of(result: Result, weight_file: WeightFile, command: str = "") -> dict[str, Any]:
    """Return the explanation as plain data, keys in a fixed order. Everything but ``timings`` is the same when run
    again.
    """
    study = result.study
    falls = dict(zip(METRICS, (waterfall(result.effects, f) for f in (result.kl, result.loss)), strict=True))
    snr = ratios(result)
    step_of = {row.effect.key: row.step.mean for row in falls["kl_nats"].rows}
    return {
        "format": "aimc-sim explanation",
        "schema_version": SCHEMA_VERSION,
        "summary": _summary(study, falls["kl_nats"]),
        "hardware": study.hardware.name,
        "time": format_duration(study.time_s),
        "time_s": study.time_s,
        "seeds": list(study.seeds),
        "largest": max(result.effects, key=lambda e: step_of[e.key]).key,
        "perplexity": {
            "digital": result.digital.perplexity,
            "chip": _perplexity(result, falls["loss_increase_nats"].total),
        },
        **{metric: {key: _figure(getattr(fall, key)) for key in SUMS} for metric, fall in falls.items()},
        "effects": [_effect(result, index, falls, snr) for index in range(len(result.effects))],
        "snr_db": {
            "roles": by_role(result.matrices, snr),
            "matrices": _matrices(result, snr),
        },
        "saturation": of_roles(result),
        "sets": [
            {
                "on": sorted(on),
                "kl_nats": result.kl(on).tolist(),
                "loss_increase_nats": result.loss(on).tolist(),
            }
            for on in result.trials
        ],
        "text": {
            "id": result.windows.id,
            "windows": len(result.windows),
            "scored_tokens": result.windows.scored_tokens,
            "description": describe_text(study, weight_file),
        },
        **{key: value for key, value in result.account.items() if key != "notes"},
        "notes": [*_notes(result), *result.account.get("notes", [])],
        "study": {"id": study.id, **study.model_dump(mode="json", exclude={"hardware"})},
        "provenance": provenance_of(
            study.hardware,
            weights=study.weights,
            ranges_id=study.ranges_id,
            arithmetic=result.account["arithmetic"],
            weight_file=weight_file,
        ),
        "command": command,
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
    }


def describe_text(study: Study, weight_file: WeightFile) -> str:
    """Say what was scored, in words."""
    if study.text is None:
        source = weight_file.calibration.source
        return f"the calibration text in the weight file ({source})"
    limit = f", its first {study.text.limit_tokens:,} tokens" if study.text.limit_tokens else ""
    return f"{study.text.name}{limit}, in windows of {study.context:,} tokens"


def write(document: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write the four files into `folder`: all complete under other names first, then all renamed."""
    pages = {
        folder / "explain.html": render(document),
        folder / "explain.json": to_json(document),
        folder / "effects.csv": effects_csv(document),
        folder / "matrices.csv": matrices_csv(document),
    }
    write_together(pages)
    return tuple(pages)


def render(document: dict[str, Any]) -> str:
    """Write the text of explain.html."""
    charts = {
        draw.__name__: partial(draw, document)
        for draw in (plots.falls, plots.apart, plots.layers, plots.clips)
        if draw is not plots.clips or document["saturation"] is not None
    }
    return page(TEMPLATE, charts, d=document, n=places(document["kl_nats"]["total"]["mean"]))


def effects_csv(document: dict[str, Any]) -> str:
    """Write one row an effect, then the sums: KL and loss with both ends of each interval, perplexity, SNR."""
    columns = [f"{metric}_{quantity}" for metric in METRICS for quantity in QUANTITIES]
    rows = []
    for effect in document["effects"]:
        row = {"effect": effect["effect"], "name": effect["name"], "perplexity_total": effect["perplexity"]}
        row["snr_db_alone_median"] = effect["snr_db"]["median"]
        for metric in METRICS:
            for quantity in QUANTITIES:
                row |= _with_ends(f"{metric}_{quantity}", effect[metric][quantity])
        rows.append(row)
    for key, quantity in SUMS.items():
        row = {"effect": key}
        for metric in METRICS:
            row |= _with_ends(f"{metric}_{quantity}", document[metric][key])
        rows.append(row)
    figures = [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]
    return _csv(["effect", "name", *figures, "perplexity_total", "snr_db_alone_median"], rows)


def matrices_csv(document: dict[str, Any]) -> str:
    """Write one row a matrix: its SNR in dB with all effects, each alone, and all but each; shares of what clips."""
    keys = [effect["effect"] for effect in document["effects"]]
    ratios = [f"snr_db_{part}_{key}" for part in ("alone", "without") for key in keys]
    columns = ["matrix", "role", "layer", "inputs", "outputs", "snr_db_all", *ratios, "inputs_clipped",
               "conversions_saturated", "worst_tile", "worst_tile_saturated"]  # fmt: skip
    rows = [
        {
            **matrix,
            "matrix": matrix["name"],
            "snr_db_all": matrix["all"],
            **{f"snr_db_{part}_{key}": matrix[part][key] for part in ("alone", "without") for key in keys},
            "worst_tile": matrix["worst_tile"] and "{}/{}".format(*matrix["worst_tile"]),
        }
        for matrix in document["snr_db"]["matrices"]
    ]
    return _csv(columns, rows)


def _with_ends(column: str, figure: dict[str, Any]) -> dict[str, Any]:
    low, high = figure["interval_95"]
    return {column: figure["mean"], f"{column}_low": low, f"{column}_high": high}


def _csv(columns: list[str], rows: Iterable[dict[str, Any]]) -> str:
    """Write a table; what is missing, or no finite number, is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        finite = (not isinstance(value, float) or math.isfinite(value) for value in row.values())
        writer.writerow({key: row[key] if known else None for key, known in zip(row, finite, strict=True)})
    return out.getvalue()


def _figure(value: Figure) -> dict[str, Any]:
    return {
        "mean": value.mean,
        "interval_95": [None, None] if value.interval is None else list(value.interval),
        "by_seed": list(value.by_chip),
    }


def _effect(result: Result, index: int, falls: dict[str, Waterfall], snr: Ratios) -> dict[str, Any]:
    rows = {metric: fall.rows[index] for metric, fall in falls.items()}
    effect, row = result.effects[index], rows["kl_nats"]
    total = falls["kl_nats"].total.mean
    alone = snr.alone[effect.key][~np.isnan(snr.alone[effect.key])]
    return {
        "effect": effect.key,
        "name": effect.name,
        "detail": effect.detail,
        "differs_by_chip": effect.random,
        "beside": _in_order(result, row.beside),
        "gone_too": _in_order(result, row.gone_too),
        "share": row.step.mean / total if total > 0 else None,
        **{metric: {key: _figure(getattr(part, key)) for key in QUANTITIES} for metric, part in rows.items()},
        "perplexity": _perplexity(result, rows["loss_increase_nats"].total),
        "snr_db": {
            "median": float(np.median(alone)) if alone.size else None,
            "worst": float(alone.min()) if alone.size else None,
        },
    }


def _in_order(result: Result, keys: frozenset[str]) -> list[str]:
    return [effect.name for effect in result.effects if effect.key in keys]


def _perplexity(result: Result, increase: Figure) -> float:
    """Return the geometric mean over chips."""
    loss = result.digital.loss + increase.mean
    return math.exp(loss) if loss < 709.0 else math.inf


def _matrices(result: Result, snr: Ratios) -> list[dict[str, Any]]:
    return [
        {
            "name": matrix.name,
            "role": matrix.role,
            "layer": layer_of(matrix.name),
            "inputs": matrix.rows,
            "outputs": matrix.cols,
            "all": float(snr.total[index]),
            "alone": {key: float(values[index]) for key, values in snr.alone.items()},
            "without": {key: float(values[index]) for key, values in snr.without.items()},
            **of_matrix(result.saturation.get(matrix.name)),
        }
        for index, matrix in enumerate(result.matrices)
    ]


def _summary(study: Study, fall: Waterfall) -> str:
    """Say what costs most, and what an ideal part would win back, in two plain sentences."""
    total, name = fall.total.mean, study.hardware.name
    when = "at programming" if study.time_s == 0 else f"{spoken(study.time_s)} after programming"
    if total < 5e-4:
        return f"{name} loses less than 0.0005 nats per token {when}: there is little to explain."
    largest = [
        row for row in sorted(fall.rows, key=lambda row: -row.step.mean) if row.step.mean > 0.005 * total
    ]
    shares = [
        f"{_in_text(row)} {sig(row.step.mean)} ({100 * row.step.mean / total:.0f}\u202f%)"
        for row in largest[:3]
    ]
    one = len(shares) == 1
    text = (
        f"{name} loses {sig(total)} {nats(sig(total))} per token {when}. Switched on in the order of the signal, the "
        f"largest step{' is' if one else 's are'} {listed(shares)}."
    )
    best = max(fall.rows, key=lambda row: row.won_back.mean)
    if best.won_back.mean <= 0 or len(fall.rows) == 1:
        return text
    return f"{text} Without {_in_text(best)}, and all else as it is, {sig(best.won_back.mean)} would be won back."


def _in_text(row: Row) -> str:
    """Write an effect's name as it stands inside a sentence: Drift → drift, DAC errors → DAC errors."""
    name = row.effect.name
    return name if name[:2].isupper() or not name[0].isalpha() else name[0].lower() + name[1:]


def _notes(result: Result) -> list[str]:
    study, hardware = result.study, result.study.hardware
    keys = {effect.key for effect in result.effects}
    notes = [
        "Intervals count how chips differ, on this text; every set of effects is scored on the same chips, so that "
        "differences are those of the effects."
    ]
    if len(study.seeds) == 1:
        notes[0] = "One chip was simulated, so nothing here has an interval."
    if needs_ranges(hardware):
        notes.append(
            "Every set keeps the converter ranges of the whole hardware, fitted with exact cells on the calibration "
            "text."
        )
        if study.text is None:
            notes.append(
                "The text that is scored is the one that converter ranges were fitted on; on other text converters "
                "can cost a little more (--text)."
            )
    if {"dac", "adc"} <= keys:
        clip = " and clips at it" if hardware.dac and isinstance(hardware.dac.range, StaticRange) else ""
        notes.append(
            f"Where the DAC is off and the ADC on, inputs have 16 bits within the same range{clip}: the ADC's full "
            "scale is in units of it."
        )
    for effect in result.effects:
        if beside := context(result.effects, effect):
            others = listed(_in_order(result, beside))
            notes.append(f"{effect.name} alone: beside {others}, whose own loss is taken off.")
        if gone := dependents(result.effects, effect):
            others = listed(_in_order(result, gone))
            notes.append(f"{effect.name} won back: with {others}, which cannot be simulated without it.")
    return notes
