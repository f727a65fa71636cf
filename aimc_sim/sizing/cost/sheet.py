"""The sheet an architect would draw: task, tile, formulas with their numbers, where energy and time go, sources."""

from __future__ import annotations

import math

from aimc_sim.report.words import si
from aimc_sim.sizing.cost.analog import COMPONENTS
from aimc_sim.sizing.cost.components import Converters, product_ns, timing
from aimc_sim.sizing.cost.digital import attended, cache_bytes
from aimc_sim.sizing.cost.document import Sizing, convention
from aimc_sim.sizing.cost.merit import peak

FORMULAS = {
    "sequential": "reads·(t_read + t_logic + rounds·t_adc)",
    "overlapped": "max(reads·t_read, conversions·rounds·t_adc)",
    "integrating": "reads·rounds·(t_read + t_adc)",
    "neurram": "0.27 µs·Σ(2^p - 1) + 0.3 µs·(Σ bits + phases)",
}


def _one(array: object) -> float:
    return float(array[0])  # type: ignore[index]


def _counted(count: float, what: str) -> str:
    return f"{count:,.0f} {what if count == 1 else what + 's'}"


def summary(found: Sizing) -> list[str]:
    """A few lines: what it is, what it costs, how sure that is."""
    cost, d, asked = found.cost, found.cost.designs, found.cost.scenario
    what = f"{asked.phase} at {asked.context:,} tokens of context, {_counted(asked.streams, 'stream')}"
    per_mac = _one(cost.conversions) / max(cost.macs, 1)
    return [
        f"{cost.workload.model.name} on {d.hardware.name}, costs {d.profile.name} ({d.profile.kind}), {what}"
        + ("" if asked.head else ", without head"),
        f"tiles      {_one(cost.tiles):,.0f} of {_one(d.rows):.0f} × {_one(d.cols):.0f}, utilisation "
        f"{_one(cost.utilisation):.2f}, {_counted(found.chips.count, 'chip')}",
        f"area       {_area(_one(cost.area_total_mm2))}{_band(found, 'area_total_mm2', 'mm²')}",
        f"energy     {si(_one(cost.energy_per_token_j), 'J')} a token{_band(found, 'energy_per_token_j', 'J')}",
        f"time       {si(_one(cost.latency_per_token_s), 's')} a token{_band(found, 'latency_per_token_s', 's')}",
        f"speed      {_one(cost.tokens_per_s):,.4g} tokens/s at {si(_one(cost.power_w), 'W')}; "
        f"{_one(cost.tokens_per_s_per_w):,.4g} tokens/s/W, {_one(cost.tokens_per_s_per_mm2):,.4g} tokens/s/mm²; "
        f"full pipeline {1 / _one(cost.slowest_stage_s):,.4g} tokens/s",
        f"converts   {_one(cost.conversions):,.0f} times a token, {per_mac:.4g} a multiply-accumulate",
        f"operation  {convention(d)}",
        *([] if found.replicated is None else [
            f"replicated {found.replicated.tiles:,} tiles: {found.replicated.tokens_per_s:,.4g} tokens/s for many "
            f"streams, bound by {found.replicated.bound_by}"
        ]),
    ]  # fmt: skip


def _area(mm2: float) -> str:
    """Four digits, and no exponent."""
    return f"{mm2:,.0f} mm²" if mm2 >= 1000 else f"{mm2:.4g} mm²"


def _band(found: Sizing, name: str, unit: str) -> str:
    ends = sorted(_one(getattr(at, name)) for at in (found.low, found.high))
    if ends[1] - ends[0] <= 1e-9 * ends[1]:
        return ""
    low, high = (_area(end) if unit == "mm²" else si(end, unit) for end in ends)
    return f" ({low} to {high} over the bands of the constants)"


def sheet(found: Sizing) -> list[str]:
    """Everything, section by section."""
    sections = [
        summary(found), _tile(found), _counts(found), _product(found), _path(found), _table(found), _chips(found),
        _programming(found), _constants(found),
    ]  # fmt: skip
    lines: list[str] = []
    for section in sections:
        lines += [*section, ""]
    return lines[:-1]


def _tile(found: Sizing) -> list[str]:
    d = found.cost.designs
    best = {key: _one(value) for key, value in peak(d).items()}
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
    device, volt = d.hardware.device, _one(d.v_read_v)
    if volt and device.domain == "conductance":
        lines.append(
            f"Column current at most V_read·g_max·R = {volt:g} V · {device.g_max_us:g} µS · {_one(d.rows):.0f} = "
            f"{volt * device.g_max_us * _one(d.rows) * 1e-3:.3g} mA; the converter's full scale lies below it"
        )
    if _one(d.noise_factor) != 1:
        times = f"{_one(d.t_read_ns):g} ns instead of {_one(d.t_reference_ns):g}"
        lines.append(f"Read and thermal noise × {_one(d.noise_factor):.3g}: a read takes {times}")
    return lines


def _counts(found: Sizing) -> list[str]:
    cost, d = found.cost, found.cost.designs
    R, C, s = _one(d.rows), _one(d.cols), _one(d.columns_per_weight)
    head = f"R = {R:.0f}, C = {C:.0f}, s = {s:.0f} columns a weight"
    lines = [f"1. From matrices to tiles: ceil(K/R)·ceil(N·s/C); {head}"]
    alike: dict[tuple[str, int, int, int, int, int], int] = {}
    for m in cost.matrices:
        if m.analog:
            key = (m.role, m.rows, m.cols, m.count, m.active, int(_one(d.held_by(m.special).copies)))
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


def _product(found: Sizing) -> list[str]:
    d = found.cost.designs
    law, converter = d.profile.timing.law, Converters("adc", d, d.profile.adc)
    reading, converting, logic = (_one(part) for part in timing(d))
    lines = [
        f"2. Time of a product ({law}): {FORMULAS[law]}",
        f"   reads = {_one(d.reads):.0f}, t_read = {_one(d.t_read_ns):g} ns, "
        f"rounds = {_one(d.rounds):.0f} with {_counted(_one(d.adcs_per_tile), 'converter')} a tile, "
        f"t_adc = {_one(converter.conversion_ns()):.4g} ns",
        f"   reading {reading:.4g} + converting {converting:.4g} + logic {logic:.4g} = {_one(product_ns(d)):.4g} ns",
    ]
    if law != "neurram":
        energy = si(_one(converter.conversion_pj()) * 1e-12, "J")
        lines.append(f"   a conversion at {_one(d.enob):.2f} effective bits ({d.profile.adc.law}): {energy}")
    return lines


def _path(found: Sizing) -> list[str]:
    cost = found.cost
    add, hop = (
        cost.designs.profile.periphery.of("delay_add"),
        cost.designs.profile.interconnect.of("delay_hop"),
    )
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
        f"   1 stream: {1 / _one(cost.token_path_s):,.4g} tokens/s; from {cost.stages} streams on, 1 a slowest step: "
        f"{1 / _one(cost.slowest_stage_s):,.4g} tokens/s",
    ]
    return lines


def _table(found: Sizing) -> list[str]:
    cost = found.cost
    columns = [
        (cost.energy_j, _one(cost.energy_per_token_j), "J"),
        (cost.path_s, _one(cost.token_path_s), "s"),
        (cost.area_mm2, _one(cost.area_total_mm2), "mm²"),
    ]
    lines = [
        "4. Where it goes, a token",
        f"   {'component':<14}{'energy':>14}{'':>8}{'time':>14}{'':>8}{'area':>14}",
    ]
    for name in COMPONENTS:
        row, there = f"   {name:<14}", False
        for table, whole, unit in columns:
            value = _one(table[name]) if name in table else 0.0
            there = there or bool(value)
            shown = "–" if not value else _area(value) if unit == "mm²" else si(value, unit)
            row += f"{shown:>14}{f'{value / whole:.1%}' if value else '':>8}"
        if there:
            lines.append(row.rstrip())
    return lines


def _chips(found: Sizing) -> list[str]:
    chips = found.chips
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
    more = found.replicated
    if more is not None:
        shown = (
            ", ".join(f"{step} × {count}" for (_, step), count in more.copies.items() if count > 1) or "none"
        )
        lines.append(
            f"   with {more.tiles:,} tiles, copies of slow steps ({shown}): {more.tokens_per_s:,.4g} tokens/s for many "
            f"streams, bound by {more.bound_by}"
        )
    return lines


def _programming(found: Sizing) -> list[str]:
    w = found.writing
    lines = [
        f"6. Programming once: {_one(w.devices):,.0f} devices, {si(_one(w.energy_j), 'J')}, {si(_one(w.time_s), 's')}; "
        f"one readout for compensation: {si(_one(w.calibration_j), 'J')}, {si(_one(w.calibration_s), 's')}"
    ]
    if w.refresh_w is not None and w.refresh_share is not None:
        life = "" if w.lifetime_y is None else f"; the cells last {_one(w.lifetime_y):.3g} years"
        share = f"{_one(w.refresh_share):.2%} of the time"
        lines.append(f"   programming anew: {si(_one(w.refresh_w), 'W')} on average, {share}{life}")
    if w.calibration_w is not None:
        lines.append(f"   compensation: {si(_one(w.calibration_w), 'W')} on average")
    return lines


def _constants(found: Sizing) -> list[str]:
    profile = found.cost.designs.profile
    lines = [
        f"Profile {profile.name}: {profile.description} Source: {profile.source}; {profile.licence}",
        f"Activity of the cells {found.activity.source}",
        "Constants: value, low to high; source; licence",
    ]
    for name, c in profile.constants():
        unit = "" if c.unit == "1" else f" {c.unit}"
        lines.append(f"   {name:<36}{c.value:g}{unit} ({c.low:g} to {c.high:g}); {c.source}; {c.licence}")
    return lines + [f"   {name}: {part.note}" for name, part in profile.named_parts() if part.note]
