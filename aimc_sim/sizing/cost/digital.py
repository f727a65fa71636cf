"""What is digital beside the tiles: attention and its cache, matrices not in tiles, adapters, transforms of inputs."""

from __future__ import annotations

import math

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.hardware.transform import choose_transform
from aimc_sim.sizing.cost.designs import Designs
from aimc_sim.sizing.cost.workload import Column, Group, Scenario


def transform_macs(designs: Designs, column: Column) -> float:
    """Count the multiply-accumulates of one transformed input, the mean over layers: scaling, and K·log2 K at most."""
    tables, macs = designs.hardware.transform or (), 0.0
    for name in column.names if tables and column.analog else ():
        spec = choose_transform(tables, name, column.role)
        if spec is not None:
            rotation = math.ceil(math.log2(column.rows)) if spec.rotate is not None and column.rows > 1 else 0
            macs += column.rows * (rotation + (spec.rescale_lambda is not None))
    return macs / max(len(column.names), 1)


KEYS_SERVE = 128  # queries of a prompt that a key, read once, serves: the block of a fused attention


def attended(group: Group, scenario: Scenario) -> float:
    """Count the positions that a token looks at, the mean over a prompt."""
    if scenario.phase == "decode":
        return float(min(scenario.context, group.window or scenario.context))
    if group.window is None or group.window >= scenario.context:
        return (scenario.context + 1) / 2
    early = group.window * (group.window + 1) / 2
    return (early + (scenario.context - group.window) * group.window) / scenario.context


def cache_bytes(group: Group, scenario: Scenario) -> float:
    """Count the bytes of keys and values that one layer moves for one token: what it reads, and its own, written."""
    reads = attended(group, scenario) / (KEYS_SERVE if scenario.phase == "prefill" else 1)
    return (reads + 1) * group.kv_elements * scenario.cache_bits / 8


def attention(designs: Designs, groups: tuple[Group, ...], scenario: Scenario) -> tuple[F64, F64]:
    """Compute (G,) ns and (G,) pJ of the attention of one layer and token: digital, 2·S·d_q MACs and the cache."""
    units = designs.profile.digital
    times, energies = [], []
    for group in groups:
        macs = attended(group, scenario) * group.attention_macs if group.attention_macs else 0.0
        moved = cache_bytes(group, scenario)
        times.append(max(macs / units.of("rate_macs"), moved / units.of("bandwidth_memory")))
        energies.append(macs * units.of("energy_mac") + moved * units.of("energy_memory_byte"))
    return np.array(times), np.array(energies)


def digital(designs: Designs, group: Group, scenario: Scenario) -> tuple[float, list[float], float]:
    """Compute pJ a token, ns of what is digital of each matrix, ns of the router, of one layer: 8-bit weights, read
    once for a prompt. Of a matrix in tiles that is its adapter, of another the matrix as well.
    """
    units = designs.profile.digital
    prompt = scenario.context if scenario.phase == "prefill" else 1
    last_only = prompt if group.layers == (-1,) else 1  # logits of a prompt's last token
    energy, times = group.router_macs * units.of("energy_mac"), []
    for shape, analog in zip(group.matrices, group.analog, strict=True):
        weights = shape.adapter * (shape.rows + shape.cols) + (0 if analog else shape.rows * shape.cols)
        macs = weights * shape.active
        energy += macs * units.of("energy_mac") / last_only + macs * units.of("energy_memory_byte") / prompt
        times.append(max(macs / units.of("rate_macs"), macs / prompt / units.of("bandwidth_memory")))
    return energy, times, group.router_macs / units.of("rate_macs")
