"""Counts and times of one design, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimc_sim.hardware import Hardware
from aimc_sim.sizing import Designs, Profile, Scenario, Workload, evaluate
from aimc_sim.sizing.cost.components import Use, components
from aimc_sim.sizing.cost.writing import writing

LLAMA = Workload.of("Llama-3.2-1B")


def constant(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "unit": unit, "source": "test", "licence": "none"}


def test_a_tokens_way_step_by_step() -> None:
    """Four products, four hops, their sums over row tiles and attention in each of 16 layers; then the head."""
    cost = evaluate(Designs.of("hermes-256"), LLAMA, Scenario(context=512))
    assert float(cost.path_s["interconnect"][0]) == pytest.approx(4 * 16 * 100e-9)
    adds = 16 * (7 + 7 + 7 + 31) + 7  # K = 2048 (q, o, up), 8192 (down), 2048 (head)
    assert float(cost.path_s["periphery"][0]) == pytest.approx(adds * 10e-9)
    assert float(cost.path_s["array"][0]) == pytest.approx((4 * 16 + 1) * 127e-9)
    assert float(cost.path_s["adc"][0]) == pytest.approx((4 * 16 + 1) * 3e-9)
    cache = (512 + 1) * 2 * 512 * 2
    assert float(cost.path_s["attention"][0]) == pytest.approx(
        16 * max(2 * 512 * 2048 / 1024, cache / 256) * 1e-9
    )


def test_counts_of_one_matrix() -> None:
    design = Designs.of("hermes-256", rows=100, cols=64, slices=2, dac_bits=6)
    use = Use.of(design, [250], [90])
    assert (use.row_tiles.item(), use.col_tiles.item()) == (3, 3)
    assert use.cells.item() == 250 * 90 * 2
    assert use.row_reads.item() == 250 * 3
    assert use.column_reads.item() == 3 * 180
    assert use.conversions.item() == 3 * 180
    assert use.input_bytes.item() == 250 * 3 * 6 / 8
    assert use.output_bytes.item() == 3 * 90 * 2


def test_an_offset_column_is_converted_once_a_tile() -> None:
    chip = Hardware.load({"base": "pcm-512", "weights": {"bits": 8, "pair": "offset_column"}})
    use = Use.of(Designs.of(chip, rows=100, cols=64), [250], [90])
    assert use.conversions.item() == 3 * (90 + 2)
    assert use.column_reads.item() == 3 * (90 + 2)
    cost = evaluate(Designs.of(chip), LLAMA)
    weights = float(LLAMA.model.parameters)
    assert float(writing(cost).devices[0]) == weights  # one cell a weight


def test_cells_beside_an_offset_column_conduct_half_on_average() -> None:
    from aimc_sim.sizing.cost.activity import gaussian

    chip = Hardware.load({"base": "pcm-512", "weights": {"bits": 8, "pair": "offset_column"}})
    pair, offset = (gaussian(Designs.of(c), np.array([[2048.0]])) for c in (Hardware.load("pcm-512"), chip))
    from aimc_sim.sizing.cost.designs import crest

    assert float((offset / pair)[0, 0]) == pytest.approx(0.5 / (0.797884561 / float(crest(512))))


def test_every_kind_of_constant_is_charged_for_what_it_names() -> None:
    kinds = {
        "energy_per_product": 6, "energy_per_row_read": 250 * 2, "energy_per_column_read": 3 * 90,
        "energy_per_cell_read": 250 * 90, "energy_per_conversion": 3 * 90, "energy_per_converted_bit": 3 * 90 * 8,
        "energy_per_input_byte": 250 * 2, "energy_per_output_byte": 3 * 90 * 2,
    }  # fmt: skip
    for name, count in kinds.items():
        profile = Profile.load({"base": "adc-survey", "buffers": {name: constant(2.0, "pJ")}})
        design = Designs.of("hermes-256", profile, rows=100, cols=64)
        energy = components(design)["buffers"].energy_pj(Use.of(design, [250], [90]))
        assert energy.item() == 2.0 * count, name
    areas = {"area_tile": 1, "area_row": 100, "area_column": 64, "area_cell": 6400, "area_converter": 64,
             "area_converter_bit": 64 * 8}  # fmt: skip
    for name, count in areas.items():
        profile = Profile.load({"base": "adc-survey", "buffers": {name: constant(3.0, "um2")}})
        design = Designs.of("hermes-256", profile, rows=100, cols=64)
        assert components(design)["buffers"].area_um2().item() == 3.0 * count, name
    profile = Profile.load({"base": "adc-survey", "buffers": {"power_tile": constant(2.0, "mW")}})
    design = Designs.of("hermes-256", profile, rows=100, cols=64)
    assert components(design)["buffers"].energy_pj(Use.of(design, [250], [90])).item() == 2.0 * 6 * 128


def test_a_vector_goes_once_to_every_die_that_works() -> None:
    cost = evaluate(
        Designs.of("hermes-256", Profile.load({"base": "hermes-14nm", "chip": {"tiles": 1000}})), LLAMA
    )
    assert float(cost.chips[0]) == 19
    assert float(cost.link_bytes[0]) == 18 * 2048 * 2
    assert float(cost.energy_j["links"][0]) == pytest.approx(18 * 2048 * 2 * 10e-12)
    assert float(cost.path_s["links"][0]) == pytest.approx(18 * (100 + 2048 * 2 / 64) * 1e-9)
    experts = evaluate(Designs.of("pcm-512", Profile.load({"base": "adc-survey", "chip": {"tiles": 10_000}})),
                       Workload.of("Qwen3-30B-A3B"))  # fmt: skip
    assert (
        float(experts.link_bytes[0]) < float(experts.chips[0] - 1) * 2048 * 2
    )  # most dies hold sleeping experts


def test_a_noisier_converter_is_cheaper_in_every_law_that_knows_effective_bits() -> None:
    noisy = Hardware.load({"base": "hermes-256", "adc": {"errors": {"noise_lsb": 0.5}}})  # a whole bit
    for profile in ("adc-survey", "isaac-32nm", "hermes-14nm"):
        clean, worse = (
            evaluate(Designs.of(h, profile), LLAMA).energy_j["adc"] for h in ("hermes-256", noisy)
        )
        assert float(worse[0]) < float(clean[0]), profile
    ratio = evaluate(Designs.of(noisy, "isaac-32nm"), LLAMA).energy_j["adc"]
    full = evaluate(Designs.of("hermes-256", "isaac-32nm"), LLAMA).energy_j["adc"]
    assert float((ratio / full)[0]) == pytest.approx(
        0.5
    )  # 12·0.25 + 1 = 4: one bit, and ISAAC's constant doubles a bit


def test_converters_shared_by_columns_cost_area_once_and_time_more() -> None:
    design = Designs.of("hermes-256", "adc-survey", adcs_per_tile=[256, 64, 16])
    cost = evaluate(design, LLAMA)
    adc = cost.mappings[0].tile_area_um2["adc"]
    assert adc[0] > adc[1] > adc[2]  # they are faster, and still fewer take less
    assert design.rounds.tolist() == [1, 4, 16]
    fixed = evaluate(Designs.of("hermes-256", "isaac-32nm", adcs_per_tile=[256, 64, 1]), LLAMA)
    assert fixed.mappings[0].tile_area_um2["adc"].tolist() == pytest.approx([256 * 1200, 64 * 1200, 1200])
    assert fixed.path_s["adc"][0] == fixed.path_s["adc"][1] == 0 < fixed.path_s["adc"][2]
