"""The sheet an architect would draw: task, tile, formulas with their numbers, where energy and time go, sources."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aimc_sim.report.words import si
from aimc_sim.sizing.cost.analog import COMPONENTS
from aimc_sim.sizing.cost.components import converters, product_ns, timing
from aimc_sim.sizing.cost.designs import first
from aimc_sim.sizing.cost.digital import attended, cache_bytes
from aimc_sim.sizing.cost.document import convention
from aimc_sim.sizing.cost.merit import peak
from aimc_sim.sizing.cost.timing import TIMINGS

if TYPE_CHECKING:
    from aimc_sim.sizing.cost.estimate import Sizing


def _counted(count: float, what: str) -> str:
    return f"{count:,.0f} {what if count == 1 else what + 's'}"


def headline(sizing: Sizing) -> str:
    """Say in a sentence what a design costs."""
    cost = sizing.cost
    return (
        f"{cost.workload.model.name} on {cost.designs.hardware.name}: {first(cost.tiles):,.0f} tiles on "
        f"{_counted(sizing.chips.count, 'chip')}, {_area(first(cost.area_total_mm2))}; a token takes "
        f"{si(first(cost.energy_per_token_j), 'J')} and {si(first(cost.latency_per_token_s), 's')}, "
        f"{first(cost.tokens_per_s):,.4g} tokens/s {si(first(cost.power_w), 'W')}."
    )


def overview(sizing: Sizing) -> list[str]:
    """Say in a few lines what it is, what it costs, how sure that is."""
    cost, d, asked = sizing.cost, sizing.cost.designs, sizing.cost.scenario
    what = f"{asked.phase} at {asked.context:,} tokens of context, {_counted(asked.streams, 'stream')}"
    per_mac = first(cost.conversions) / max(cost.macs, 1)
    return [
        f"{cost.workload.model.name} on {d.hardware.name}, costs {d.profile.name} ({d.profile.kind}), {what}"
        + ("" if asked.head else ", without head"),
        f"tiles      {first(cost.tiles):,.0f} of {first(d.rows):.0f} × {first(d.cols):.0f}, utilisation "
        f"{first(cost.utilisation):.2f}, {_counted(sizing.chips.count, 'chip')}",
        f"area       {_area(first(cost.area_total_mm2))}{_band(sizing, 'area_total_mm2', 'mm²')}",
        f"energy     {si(first(cost.energy_per_token_j), 'J')} a token{_band(sizing, 'energy_per_token_j', 'J')}",
        f"time       {si(first(cost.latency_per_token_s), 's')} a token{_band(sizing, 'latency_per_token_s', 's')}",
        f"speed      {first(cost.tokens_per_s):,.4g} tokens/s at {si(first(cost.power_w), 'W')}; "
        f"{first(cost.tokens_per_s_per_w):,.4g} tokens/s/W, {first(cost.tokens_per_s_per_mm2):,.4g} tokens/s/mm²; "
        f"full pipeline {1 / first(cost.slowest_stage_s):,.4g} tokens/s",
        f"converts   {first(cost.conversions):,.0f} times a token, {per_mac:.4g} a multiply-accumulate",
        f"operation  {convention(d)}",
        *([] if sizing.replicated is None else [
            f"replicated {sizing.replicated.tiles:,} tiles: {sizing.replicated.tokens_per_s:,.4g} tokens/s for many "
            f"streams, bound by {sizing.replicated.bound_by}"
        ]),
    ]  # fmt: skip


def _area(mm2: float) -> str:
    """Write four digits, and no exponent."""
    return f"{mm2:,.0f} mm²" if mm2 >= 1000 else f"{mm2:.4g} mm²"


def _band(sizing: Sizing, name: str, unit: str) -> str:
    ends = sorted(first(getattr(at, name)) for at in (sizing.low, sizing.high))
    if ends[1] - ends[0] <= 1e-9 * ends[1]:
        return ""
    low, high = (_area(end) if unit == "mm²" else si(end, unit) for end in ends)
    return f" ({low} to {high} over the bands of the constants)"


def sheet(sizing: Sizing) -> list[str]:
    """Write everything, section by section."""
    sections = (overview, _tile, _counts, _product, _path, _table, _chips, _programming, _constants)
    lines = [line for section in sections for line in [*section(sizing), ""]]
    return lines[:-1]


def _tile(sizing: Sizing) -> list[str]:
    d = sizing.cost.designs
    best = {key: first(value) for key, value in peak(d).items()}
    lines = [
        f"One tile at full load: {best['tops']:.4g} TOPS, {best['tops_per_w']:.4g} TOPS/W, "
        f"{best['tops_per_mm2']:.4g} TOPS/mm²; a product takes {si(best['product_ns'] * 1e-9, 's')} and "
        f"{si(best['product_pj'] * 1e-12, 'J')}; {_area(best['area_mm2'])}",
    ]
    if "chip_tops" in best:
        lines.append(
            f"The published chip at full load: {best['chip_tops']:.4g} TOPS, {best['chip_power_w']:.4g} W, "
            f"{best['chip_tops_per_w']:.4g} TOPS/W, {best['chip_tops_per_mm2']:.4g} TOPS/mm²"
        )
    device, volt = d.hardware.device, first(d.v_read_v)
    if volt and device.domain == "conductance":
        lines.append(
            f"Column current at most V_read·g_max·R = {volt:g} V · {device.g_max_us:g} µS · {first(d.rows):.0f} = "
            f"{volt * device.g_max_us * first(d.rows) * 1e-3:.3g} mA; the converter's full scale lies below it"
        )
    if first(d.noise_factor) != 1:
        times = f"{first(d.t_read_ns):g} ns instead of {first(d.t_reference_ns):g}"
        lines.append(f"Read and thermal noise × {first(d.noise_factor):.3g}: a read takes {times}")
    return lines


def _counts(sizing: Sizing) -> list[str]:
    cost, d = sizing.cost, sizing.cost.designs
    R, C, s = first(d.rows), first(d.cols), first(d.columns_per_weight)
    head = f"R = {R:.0f}, C = {C:.0f}, s = {s:.0f} columns a weight"
    lines = [f"1. From matrices to tiles: ceil(K/R)·ceil(N·s/C); {head}"]
    alike: dict[tuple[str, int, int, int, int, int], int] = {}
    for m in cost.matrices:
        if m.analog:
            key = (m.role, m.rows, m.cols, m.count, m.active, int(first(d.held_by(m.special).copies)))
            alike[key] = alike.get(key, 0) + m.layers
    for (role, k, n, count, active, copies), layers in alike.items():
        high, wide = math.ceil(k / R), math.ceil(n * s / C)
        experts = f" × {count} experts ({active} work)" if count > 1 else ""
        experts += f" × {copies} copies" if copies > 1 else ""
        lines.append(
            f"   {role:<8}{k:>6} × {n:<7}ceil({k}/{R:.0f})·ceil({n * s:.0f}/{C:.0f}) = {high}·{wide} = {high * wide}"
            f"{experts} × {_counted(layers, 'layer')} = {high * wide * count * copies * layers:,}"
        )
    return lines


def _product(sizing: Sizing) -> list[str]:
    d = sizing.cost.designs
    law, converter = d.profile.timing.law, converters(d)
    reading, converting, logic = (first(part) for part in timing(d))
    lines = [
        f"2. Time of a product ({law}): {TIMINGS[law].formula}",
        f"   reads = {first(d.reads):.0f}, t_read = {first(d.t_read_ns):g} ns, "
        f"rounds = {first(d.rounds):.0f} with {_counted(first(d.adcs_per_tile), 'converter')} a tile, "
        f"t_adc = {first(converter.conversion_ns()):.4g} ns",
        f"   reading {reading:.4g} + converting {converting:.4g} + logic {logic:.4g} = {first(product_ns(d)):.4g} ns",
    ]
    if not TIMINGS[law].fixed:
        energy = si(first(converter.conversion_pj()) * 1e-12, "J")
        lines.append(f"   a conversion at {first(d.enob):.2f} effective bits ({d.profile.adc.law}): {energy}")
    return lines


def _path(sizing: Sizing) -> list[str]:
    cost, profile = sizing.cost, sizing.cost.designs.profile
    add, hop = profile.periphery.of("delay_add"), profile.interconnect.of("delay_hop")
    lines = [
        f"3. A token's way, step by step: slowest product + (ceil(K/R) - 1)·{add:g} ns + a hop of {hop:g} ns"
    ]
    steps: dict[int, list[str]] = {}
    for at, (group, name) in enumerate(cost.stage_names):
        steps.setdefault(group, []).append(f"{name} {si(float(cost.step_ns[0, at]) * 1e-9, 's')}")
    texts: dict[str, int] = {}
    for group, parts in steps.items():
        layers = cost.groups[group].layers
        text = " → ".join(parts)
        texts[text] = texts.get(text, 0) + (0 if layers == (-1,) else len(layers))
    lines += [f"   {_counted(count, 'layer') if count else 'head'}: {text}" for text, count in texts.items()]
    block = cost.groups[0]
    lines += [
        f"   attention of a layer, digital: {attended(block, cost.scenario):,.0f} positions × "
        f"{block.attention_macs:,} MACs, {cache_bytes(block, cost.scenario):,.0f} bytes of keys and values",
        f"   1 stream: {1 / first(cost.token_path_s):,.4g} tokens/s; from {cost.stages} streams on, 1 a slowest step: "
        f"{1 / first(cost.slowest_stage_s):,.4g} tokens/s",
    ]
    return lines


def _table(sizing: Sizing) -> list[str]:
    cost = sizing.cost
    columns = [
        (cost.energy_j, first(cost.energy_per_token_j), "J"),
        (cost.path_s, first(cost.token_path_s), "s"),
        (cost.area_mm2, first(cost.area_total_mm2), "mm²"),
    ]
    lines = [
        "4. Where it goes, a token",
        f"   {'component':<14}{'energy':>14}{'':>8}{'time':>14}{'':>8}{'area':>14}",
    ]
    for name in COMPONENTS:
        values = [first(table.get(name, 0.0)) for table, _, _ in columns]
        row = f"   {name:<14}"
        for value, (_, whole, unit) in zip(values, columns, strict=True):
            shown = "–" if not value else _area(value) if unit == "mm²" else si(value, unit)
            row += f"{shown:>14}{f'{value / whole:.1%}' if value else '':>8}"
        if any(values):
            lines.append(row.rstrip())
    return lines


def _chips(sizing: Sizing) -> list[str]:
    chips = sizing.chips
    shown = ", ".join(str(n) for n in chips.layers_per_chip[:12]) + (" …" if chips.count > 12 else "")
    lines = [
        f"5. Chips: {chips.count:,} of {chips.tiles_per_chip:,} tiles; layers on each: {shown}; "
        f"{min(chips.free):,} to {max(chips.free):,} tiles free",
        f"   a token crosses from die to die {_counted(chips.hops, 'time')}, with {chips.bytes:,.0f} bytes",
    ]
    if chips.experts:
        first = chips.experts[0]
        lines.append(
            f"   experts: {first.experts} a layer on {_counted(first.chips, 'chip')}; a token takes {first.active} and "
            f"visits {first.visited:.3g}"
        )
    more = sizing.replicated
    if more is not None:
        shown = (
            ", ".join(f"{step} × {count}" for (_, step), count in more.copies.items() if count > 1) or "none"
        )
        lines.append(
            f"   with {more.tiles:,} tiles, copies of slow steps ({shown}): {more.tokens_per_s:,.4g} tokens/s for many "
            f"streams, bound by {more.bound_by}"
        )
    return lines


def _programming(sizing: Sizing) -> list[str]:
    w = sizing.writing
    lines = [
        f"6. Programming once: {first(w.devices):,.0f} devices, {si(first(w.energy_j), 'J')}, "
        f"{si(first(w.time_s), 's')}; one readout for compensation: {si(first(w.calibration_j), 'J')}, "
        f"{si(first(w.calibration_s), 's')}"
    ]
    if w.refresh_w is not None and w.refresh_share is not None:
        life = "" if w.lifetime_y is None else f"; the cells last {first(w.lifetime_y):.3g} years"
        share = f"{first(w.refresh_share):.2%} of the time"
        lines.append(f"   programming anew: {si(first(w.refresh_w), 'W')} on average, {share}{life}")
    if w.calibration_w is not None:
        lines.append(f"   compensation: {si(first(w.calibration_w), 'W')} on average")
    return lines


def _constants(sizing: Sizing) -> list[str]:
    profile = sizing.cost.designs.profile
    lines = [
        f"Profile {profile.name}: {profile.description} Source: {profile.source}; {profile.licence}",
        f"Activity of the cells {sizing.activity.source}",
        "Constants: value, low to high; source; licence",
    ]
    for name, c in profile.constants():
        unit = "" if c.unit == "1" else f" {c.unit}"
        lines.append(f"   {name:<36}{c.value:g}{unit} ({c.low:g} to {c.high:g}); {c.source}; {c.licence}")
    return lines + [f"   {name}: {part.note}" for name, part in profile.named_parts() if part.note]
