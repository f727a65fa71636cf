"""One design as a document: per matrix, layer and in total, each by component, with its band, chips and warnings."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aimc_sim.sizing.cost.analog import COMPONENTS, Cost
from aimc_sim.sizing.cost.designs import Designs, first
from aimc_sim.sizing.cost.dies import replicate
from aimc_sim.sizing.cost.merit import peak
from aimc_sim.sizing.cost.workload import name_in_layer

if TYPE_CHECKING:
    from aimc_sim.sizing.cost.estimate import Sizing

FIGURES = ("energy_per_token_j", "latency_per_token_s", "area_mm2")
_DESIGN = (
    "rows cols dac_bits slice_bits phases adc_bits enob adcs_per_tile slices pair_columns columns_per_weight reads "
    "copies rounds t_read_ns v_read_v noise_factor"
).split()
_LAYER = ("name", "tiles", "utilisation", "conversions_per_token", *FIGURES)


def document(sizing: Sizing) -> dict[str, Any]:
    """Write a design down as plain values, units in the names."""
    cost, d, model = sizing.cost, sizing.cost.designs, sizing.cost.workload.model
    layers = []
    for index, group in enumerate(cost.groups):
        layer, matrices = _layer(cost, index), _matrices(cost, index)
        for at in group.layers:
            named = [
                {**matrix, "name": name_in_layer(matrix["name"], group.layers[0], at)} for matrix in matrices
            ]
            layers.append(
                {"name": "head" if at < 0 else f"layer {at}", "index": at, **layer, "matrices": named}
            )
    layers.sort(key=lambda layer: (layer["index"] < 0, layer["index"]))
    slowest, total = int(cost.step_ns[0].argmax()), _total(cost)
    ends = (_total(sizing.low), total, _total(sizing.high))
    doubled = replicate(cost, 2 * int(cost.tiles[0])) if cost.tiles[0] else None
    chips, more = sizing.chips, sizing.replicated
    return {
        "model": {"name": model.name, "family": model.family, "source": cost.workload.source,
                  "parameters": model.parameters},
        "hardware": {"name": d.hardware.name, "id": d.hardware.id},
        "profile": {name: getattr(d.profile, name) for name in
                    ("name", "id", "kind", "node_nm", "description", "source", "licence")},
        "operation": convention(d),
        "scenario": asdict(cost.scenario),
        "design": {"mode": d.mode, **{name: first(getattr(d, name)) for name in _DESIGN}},
        "activity": sizing.activity.source,
        "total": total,
        "band": {
            key: {"low": min(end[key] for end in ends), "high": max(end[key] for end in ends)}
            for key in ("energy_per_token_j", "token_path_s", "area_mm2")
        },
        "slowest_step": {"name": cost.stage_names[slowest][1], "seconds": first(cost.slowest_stage_s)},
        "peak": {key: first(value) for key, value in peak(d).items()},
        "chips": {
            "count": chips.count, "tiles_per_chip": chips.tiles_per_chip, "free_tiles": list(chips.free),
            "layers": list(chips.layers_per_chip), "hops_per_token": chips.hops, "bytes_per_token": chips.bytes,
            "experts": [asdict(item) for item in chips.experts],
            "replicated": None if more is None else more.to_dict(),
            "twice_the_tiles": None if doubled is None else {
                "tiles": doubled.tiles, "pipeline_tokens_per_s": doubled.tokens_per_s, "bound_by": doubled.bound_by},
        },
        "programming": {
            key: None if value is None else first(value) for key, value in asdict(sizing.writing).items()
        },
        "warnings": list(sizing.warnings),
        "layers": layers,
        "constants": [{"name": name, **constant.model_dump(mode="json")} for name, constant in d.profile.constants()],
    }  # fmt: skip


def layers_table(document: Mapping[str, Any]) -> str:
    """Write the layers of a document as CSV, one a row, with the energy of every component."""
    text, parts = io.StringIO(), list(document["total"]["components"])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_LAYER, *(f"{part}_energy_per_token_j" for part in parts)])
    for layer in document["layers"]:
        energies = [layer["components"][part]["energy_per_token_j"] for part in parts]
        writer.writerow([*(layer[key] for key in _LAYER), *energies])
    return text.getvalue()


def convention(designs: Designs) -> str:
    """Say what an operation is in every figure of operations a second."""
    weights = designs.hardware.weights
    stored = f"{weights.bits}-bit" if weights.bits is not None else "analog (as programmed)"
    if weights.bits is None and designs.slices[0] > 1:
        stored = f"{designs.slices[0]:.0f}-slice"
    return (
        f"2 operations a multiply-accumulate, inputs of {designs.dac_bits[0]:.0f} bits times {stored} weights, "
        f"converted at {designs.adc_bits[0]:.0f} bits; slices and phases are not counted again"
    )


def _figures(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return energy, latency and area, as sums and by component."""
    parts = {
        name: {key: first(table.get(name, 0.0)) for key, table in zip(FIGURES, tables, strict=True)}
        for name in COMPONENTS
    }
    return {**{key: sum(part[key] for part in parts.values()) for key in FIGURES}, "components": parts}


def _tiles(cost: Cost, members: list[int]) -> dict[str, Any]:
    """Return what matrices of one layer take of tiles."""
    tiles, cells = (float(table[0, members].sum()) for table in (cost.tiles_each, cost.cells_each))
    whole = tiles * first(cost.designs.rows * cost.designs.cols)
    conversions = float(cost.conversions_each[0, members].sum())
    return {
        "tiles": int(tiles), "utilisation": cells / whole if tiles else 0.0, "conversions_per_token": conversions,
    }  # fmt: skip


def _area(cost: Cost, members: list[int]) -> dict[str, float]:
    areas = dict.fromkeys(COMPONENTS, 0.0)
    for i in members:
        for name, um2 in cost.mapping_of(i).tile_area_um2.items():
            areas[name] += first(um2) * cost.tiles_each[0, i]
    return {name: um2 * 1e-6 for name, um2 in areas.items()}


def _matrices(cost: Cost, group: int) -> list[dict[str, Any]]:
    """List the matrices of one layer of a group, analog and digital."""
    entries = []
    for i, column in enumerate(cost.matrices):
        if column.group != group:
            continue
        entry: dict[str, Any] = {
            "name": column.name, "role": column.role, "rows": column.rows, "cols": column.cols,
            "copies": column.count, "active_copies": column.active,
            "placement": "analog" if column.analog else "digital",
        }  # fmt: skip
        if column.analog:
            energy = {name: value[0, i] * 1e-12 for name, value in cost.energy_pj_each.items()}
            product = {name: ns * 1e-9 for name, ns in cost.mapping_of(i).product_ns.items()}
            entry["held_otherwise"] = None if column.special is None else column.special.model_dump(
                mode="json", include={"copies", "devices", "adc_bits"}, exclude_none=True)  # fmt: skip
            entry |= _tiles(cost, [i]) | _figures(energy, product, _area(cost, [i]))
        entries.append(entry)
    return entries


def _layer(cost: Cost, group: int) -> dict[str, Any]:
    """Return what one layer of a group costs; its latency is its part of the token's way, products of a step side by
    side.
    """
    members = [i for i, column in enumerate(cost.matrices) if column.group == group]
    steps = [i for i, (at, _) in enumerate(cost.stage_names) if at == group]
    energy = {name: float(value[0, members].sum()) * 1e-12 for name, value in cost.energy_pj_each.items()}
    energy |= {"attention": cost.attention_pj[group] * 1e-12, "digital": cost.digital_pj[group] * 1e-12}
    latency = {name: float(value[0, steps].sum()) * 1e-9 for name, value in cost.stage_ns.items()}
    return _tiles(cost, members) | _figures(energy, latency, _area(cost, members))


def _total(cost: Cost) -> dict[str, Any]:
    figures = _figures(cost.energy_j, cost.path_s, cost.area_mm2)
    total = {
        "tiles": int(cost.tiles[0]), "utilisation": first(cost.utilisation),
        "analog_weights": sum(c.rows * c.cols * c.count * c.layers for c in cost.matrices if c.analog),
        "macs_per_token": cost.macs, "conversions_per_token": first(cost.conversions),
        **{key: figures[key] for key in FIGURES},
        **{key: first(getattr(cost, key)) for key in (
            "latency_per_token_s", "token_path_s", "tokens_per_s", "power_w", "tokens_per_s_per_w",
            "tokens_per_s_per_mm2")},
        "pipeline_tokens_per_s": 1 / first(cost.slowest_stage_s), "pipeline_steps": cost.stages,
        "components": figures["components"],
    }  # fmt: skip
    return total if cost.scenario.phase == "decode" else {**total, "prompt_s": first(cost.prompt_s)}
