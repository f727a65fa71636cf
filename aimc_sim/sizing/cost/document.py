"""One design as a document: per matrix, layer and in total, each by component, with its band, chips and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing.cost.activity import Activity, measure_activity
from aimc_sim.sizing.cost.analog import COMPONENTS, Cost, evaluate
from aimc_sim.sizing.cost.components import timing
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.dies import Chips, Copies, place, replicate
from aimc_sim.sizing.cost.merit import peak
from aimc_sim.sizing.cost.profile import Corner, Profile, profile_for
from aimc_sim.sizing.cost.warnings import warnings_of
from aimc_sim.sizing.cost.workload import Scenario, Workload
from aimc_sim.sizing.cost.writing import Writing, writing

FALLBACK = "hermes-256"  # the hardware of a model that brings none


@dataclass(frozen=True)
class Sizing:
    """One design point of a model, its costs at the value and at both ends of every constant's band."""

    cost: Cost
    low: Cost
    high: Cost
    activity: Activity
    chips: Chips
    writing: Writing
    warnings: tuple[str, ...]
    replicated: Copies | None = None  # slow steps, where more tiles are given

    def to_json(self) -> dict[str, Any]:
        """The document: numbers with their unit in the name, nothing but plain values."""
        return _document(self)


def size(
    model: str | Path | Workload,
    hardware: Hardware | str | None = None,
    profile: Profile | str | Path | None = None,
    scenario: Scenario | None = None,
    *,
    assumed: bool = False,
    experts: str = "packed",
    tiles: int | None = None,
    attention_units: int = 1,
    **design: npt.ArrayLike,
) -> Sizing:
    """One design of a model: tiles, conversions, energy, latency and area, with band, chips, programming and warnings.

    model: a name of the catalogue, a weight file, a config.json, or a Workload; hardware: None is the weight file's
    own, else hermes-256; profile: None is the one that stands for the hardware's device; design: fields of `Designs.of`
    that replace the hardware's; tiles: how many there are in all, so that slow steps get copies (`replicate`). A weight
    file's activity is measured on its calibration text unless ``assumed``.
    """
    work = model if isinstance(model, Workload) else Workload.of(model)
    chip = (
        Hardware.load(hardware)
        if hardware is not None
        else work.file.hardware
        if work.file
        else Hardware.load(FALLBACK)
    )
    work = replace(work, placement=chip.placement)._checked()
    costs = profile_for(chip.device.name) if profile is None else Profile.load(profile)
    asked = scenario or Scenario()
    if experts not in ("packed", "spread"):
        raise BadInput(
            "experts", got=experts, why="they stand beside their layer or apart", do="use packed or spread"
        )
    designs = Designs.of(chip, costs, **design)
    if len(designs) != 1:
        raise BadInput(
            "design", got=len(designs), why="a sizing is of one point", do="give one value of each field"
        )
    activity, work = activity_of(work, designs, assumed=assumed)
    corners: dict[Corner, Cost] = {}
    for corner in ("value", "low", "high"):
        at = designs if corner == "value" else Designs.of(chip, costs.at(corner), **design)
        corners[corner] = evaluate(at, work, asked, activity)
    cost = corners["value"]
    chips = place(cost, experts="spread" if experts == "spread" else "packed")
    write = writing(cost)
    notes = warnings_of(cost, chips, write, activity)
    more = None if tiles is None else replicate(cost, tiles, attention_units=attention_units)
    return Sizing(cost, corners["low"], corners["high"], activity, chips, write, notes, more)


def activity_of(work: Workload, designs: Designs, *, assumed: bool = False) -> tuple[Activity, Workload]:
    """Activity as figures of this workload take it, and the workload with as many groups as it asks for.

    Measured on a weight file's calibration text; Gaussian where there is none, weights lie in slices, the profile does
    not ask, or ``assumed``.
    """
    needed = designs.profile.array.voltage_read is not None
    if work.file is None or assumed or not needed or not _can_measure(work, designs):
        return Activity(), work
    return measure_activity(work.file, designs), replace(work, merged=False)


def _can_measure(work: Workload, designs: Designs) -> bool:
    assert work.file is not None
    try:
        found = work.file.calibration.token_ids.size > 0
    except BadInput:  # exported without calibration text
        return False
    return found and bool((designs.slices == 1).all())


def convention(designs: Designs) -> str:
    """What an operation is in every figure of operations a second."""
    weights = designs.hardware.weights
    held = f"{weights.bits}-bit" if weights.bits is not None else "analog (as programmed)"
    if weights.bits is None and designs.slices[0] > 1:
        held = f"{designs.slices[0]:.0f}-slice"
    return (
        f"2 operations a multiply-accumulate, inputs of {designs.dac_bits[0]:.0f} bits times {held} weights, "
        f"converted at {designs.adc_bits[0]:.0f} bits; slices and phases are not counted again"
    )


def _one(value: F64 | float) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def _parts(
    energy: Mapping[str, Any], latency: Mapping[str, Any], area: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    return {
        name: {
            "energy_per_token_j": _one(energy.get(name, 0.0)),
            "latency_per_token_s": _one(latency.get(name, 0.0)),
            "area_mm2": _one(area.get(name, 0.0)),
        }
        for name in COMPONENTS
    }


def _sums(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(part[key] for part in parts.values()) for key in next(iter(parts.values()))}


def _matrices(cost: Cost, group: int) -> list[dict[str, Any]]:
    """The matrices of one layer of a group, analog and digital."""
    found = []
    for i, column in enumerate(cost.matrices):
        if column.group != group:
            continue
        entry: dict[str, Any] = {
            "name": column.name, "role": column.role, "rows": column.rows, "cols": column.cols,
            "copies": column.count, "active_copies": column.active,
            "placement": "analog" if column.analog else "digital",
        }  # fmt: skip
        if column.analog:
            tiles = _one(cost.tiles_each[0, i])
            area = {name: _one(value) * 1e-6 for name, value in cost.area_um2_of(i).items()}
            energy = {name: value[0, i] * 1e-12 for name, value in cost.energy_pj_each.items()}
            own_ns = _product_parts(cost.designs.held_by(column.special))
            parts = _parts(energy, {name: ns * 1e-9 for name, ns in own_ns.items()}, area)
            d = cost.designs
            held = float(cost.cells_each[0, i])
            entry |= {
                "held_otherwise": None if column.special is None else column.special.model_dump(
                    mode="json", include={"copies", "devices", "adc_bits"}, exclude_none=True),
                "tiles": int(tiles), "utilisation": held / (tiles * _one(d.rows) * _one(d.cols)),
                "conversions_per_token": _one(cost.conversions_each[0, i]), **_sums(parts), "components": parts,
            }  # fmt: skip
        found.append(entry)
    return found


def _product_parts(held: Designs) -> dict[str, F64]:
    """Component → (P,) ns of one product of matrices that are held so."""
    reading, converting, logic = timing(held)
    return {"array": reading, "adc": converting, "periphery": logic}


def _layer(cost: Cost, group: int) -> dict[str, Any]:
    """What one layer of a group costs; its latency is its part of the token's way, products of a step side by side."""
    members = [i for i, column in enumerate(cost.matrices) if column.group == group]
    steps = [i for i, (at, _) in enumerate(cost.stage_names) if at == group]
    tiles = float(cost.tiles_each[0, members].sum())
    energy: dict[str, float] = {
        name: float(value[0, members].sum()) * 1e-12 for name, value in cost.energy_pj_each.items()
    }
    energy |= {
        "attention": float(cost.attention_pj[group]) * 1e-12,
        "digital": float(cost.digital_pj[group]) * 1e-12,
    }
    latency = {name: float(value[0, steps].sum()) * 1e-9 for name, value in cost.stage_ns.items()}
    area = {name: sum(_one(cost.area_um2_of(i)[name]) for i in members) * 1e-6 for name in cost.tile_area_um2}
    parts = _parts(energy, latency, area)
    d = cost.designs
    held = float(cost.cells_each[0, members].sum())
    share = held / (tiles * _one(d.rows) * _one(d.cols)) if tiles else 0.0
    return {
        "tiles": int(tiles), "utilisation": share,
        "conversions_per_token": float(cost.conversions_each[0, members].sum()), **_sums(parts), "components": parts,
    }  # fmt: skip


def _total(cost: Cost) -> dict[str, Any]:
    parts = _parts(cost.energy_j, cost.path_s, cost.area_mm2)
    found: dict[str, Any] = {
        "tiles": int(cost.tiles[0]), "utilisation": _one(cost.utilisation),
        "analog_weights": sum(c.rows * c.cols * c.count * c.layers for c in cost.matrices if c.analog),
        "macs_per_token": cost.macs, "conversions_per_token": _one(cost.conversions),
        **_sums(parts),
        "latency_per_token_s": _one(cost.latency_per_token_s), "token_path_s": _one(cost.token_path_s),
        "tokens_per_s": _one(cost.tokens_per_s), "power_w": _one(cost.power_w),
        "tokens_per_s_per_w": _one(cost.tokens_per_s_per_w), "tokens_per_s_per_mm2": _one(cost.tokens_per_s_per_mm2),
        "pipeline_tokens_per_s": 1 / _one(cost.slowest_stage_s), "pipeline_steps": cost.stages, "components": parts,
    }  # fmt: skip
    if cost.scenario.phase == "prefill":
        found["prompt_s"] = _one(cost.prompt_s)
    return found


def _design(designs: Designs) -> dict[str, Any]:
    names = (
        "rows cols dac_bits slice_bits phases adc_bits enob adcs_per_tile slices pair_columns columns_per_weight reads "
        "copies rounds t_read_ns v_read_v noise_factor"
    ).split()
    return {"mode": designs.mode, **{name: _one(getattr(designs, name)) for name in names}}


def _document(found: Sizing) -> dict[str, Any]:
    cost, d = found.cost, found.cost.designs
    layers = []
    for index, group in enumerate(cost.groups):
        layer, matrices = _layer(cost, index), _matrices(cost, index)
        for at in group.layers:
            named = [
                {
                    **m,
                    "name": m["name"] if at < 0 else m["name"].replace(f".{group.layers[0]}.", f".{at}.", 1),
                }
                for m in matrices
            ]
            layers.append(
                {"name": "head" if at < 0 else f"layer {at}", "index": at, **layer, "matrices": named}
            )
    layers.sort(key=lambda layer: (layer["index"] < 0, layer["index"]))
    total = _total(cost)
    slowest = int(cost.step_ns[0].argmax())
    doubled = replicate(cost, 2 * int(cost.tiles[0])) if cost.tiles[0] else None
    write = found.writing
    return {
        "model": {"name": cost.workload.model.name, "family": cost.workload.model.family,
                  "source": cost.workload.source, "parameters": cost.workload.model.parameters},
        "hardware": {"name": d.hardware.name, "id": d.hardware.id},
        "profile": {"name": d.profile.name, "id": d.profile.id, "kind": d.profile.kind, "node_nm": d.profile.node_nm,
                    "description": d.profile.description, "source": d.profile.source, "licence": d.profile.licence},
        "operation": convention(d),
        "scenario": asdict(cost.scenario), "design": _design(d), "activity": found.activity.source,
        "total": total,
        "band": {
            key: {"low": min(ends), "high": max(ends)}
            for key in ("energy_per_token_j", "token_path_s", "area_mm2")
            for ends in [[_total(at)[key] for at in (found.low, cost, found.high)]]
        },
        "slowest_step": {"name": cost.stage_names[slowest][1], "seconds": _one(cost.slowest_stage_s)},
        "peak": {key: _one(value) for key, value in peak(d).items()},
        "chips": {
            "count": found.chips.count, "tiles_per_chip": found.chips.tiles_per_chip,
            "free_tiles": list(found.chips.free),
            "layers": list(found.chips.layers_per_chip), "hops_per_token": found.chips.hops,
            "bytes_per_token": found.chips.bytes, "experts": [asdict(item) for item in found.chips.experts],
            "replicated": None if found.replicated is None else found.replicated.to_json(),
            "twice_the_tiles": None if doubled is None else {
                "tiles": doubled.tiles, "pipeline_tokens_per_s": doubled.tokens_per_s, "bound_by": doubled.bound_by},
        },
        "programming": {key: None if value is None else _one(value) for key, value in asdict(write).items()},
        "warnings": list(found.warnings),
        "layers": layers,
        "constants": [{"name": name, **constant.model_dump(mode="json")} for name, constant in d.profile.constants()],
    }  # fmt: skip
