"""The targets that an estimator must meet: published and computed points, each at the stated tolerance."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.models.catalogue import named_shapes
from aimc_sim.sizing import (
    Designs,
    Scenario,
    Workload,
    adc_survey,
    conversions_per_mac,
    evaluate,
    peak,
    tiles,
    zigzag_adc,
)
from aimc_sim.sizing.cost.timing import NEURRAM_BIT_US, NEURRAM_PULSE_US, neurram_counts

DATA = Path(__file__).parent / "data"
BITWISE = {"base": "hermes-256", "dac": {"mode": "bit_serial", "coding": "offset"}}


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(name: str, key: str) -> npt.NDArray[np.float64]:
    return np.array([float(row[key]) for row in rows(name)])


def off(found: Any, expected: Any) -> float:
    """Largest relative difference."""
    return float(np.max(np.abs(np.asarray(found) / np.asarray(expected) - 1)))


def test_survey_points_to_1e_9() -> None:
    name = "adc_reference.csv"
    keys = ("enob_bits", "tech_nm", "total_throughput_sps", "n_adcs")
    energy, area = adc_survey(*(column(name, key) for key in keys))
    assert off(energy, column(name, "energy_per_convert_pJ")) <= 1e-9
    assert off(area, column(name, "area_um2_total")) <= 1e-9


def test_the_survey_broadcasts_and_refuses_what_it_was_not_fitted_to() -> None:
    energy, area = adc_survey([[4], [8]], 14, [1e6, 1e8, 1e9])
    assert energy.shape == area.shape == (2, 3)
    shared, many = adc_survey(8, 14, 32e6, 32)
    alone, one = adc_survey(8, 14, 1e6)
    assert shared == alone  # the rate counts all converters
    assert many == pytest.approx(32 * one)
    for bad in ((3.9, 14, 1e6), (21, 14, 1e6), (8, 0, 1e6), (8, 14, 0), (float("nan"), 14, 1e6)):
        with pytest.raises(BadInput, match="the model holds from"):
            adc_survey(*bad)


def test_zigzag_points_to_1e_9() -> None:
    name = "zigzag_aimc_reference.csv"
    bits, height = column(name, "adc_bits"), column(name, "rows(D2)")
    energy, area, delay = zigzag_adc(bits, height)
    for found, key in ((energy, "adc_energy_pJ"), (area, "adc_area_mm2"), (delay, "adc_delay_ns")):
        assert off(found, column(name, key)) <= 1e-9


def test_the_profile_sram_28nm_is_that_macro() -> None:
    """The general model, fed with the profile's constants, reaches the points of the macro's own formulas."""
    name = "zigzag_aimc_reference.csv"
    bits, height, width = (column(name, key).astype(int) for key in ("adc_bits", "rows(D2)", "cols(D1)"))
    found = peak(
        Designs.of(Hardware.load(BITWISE), "sram-28nm", rows=height, cols=8 * width, slices=8, adc_bits=bits)
    )
    for key, there in (("tops", "TOPS"), ("tops_per_w", "TOPS_per_W"), ("tops_per_mm2", "TOPS_per_mm2"),
                       ("area_mm2", "area_mm2")):  # fmt: skip
        assert off(found[key], column(name, there)) <= 1e-9, key


def isaac() -> Designs:
    return Designs.of(
        Hardware.load(BITWISE), "isaac-32nm", rows=128, cols=128, dac_bits=16, slices=8, adc_bits=8
    )


def test_isaac() -> None:
    """The components of its table, through the general model, add up to the tile and the chip that it prints."""
    table = rows("isaac_table1.csv")

    def total(key: str, scope: str) -> float:
        return sum(
            float(row[key]) * (0.25 if row["component"].startswith("router") else 1.0)
            for row in table
            if row["scope"] == scope
        )

    tile_mw = total("power_mW_group", "tile") + 12 * total("power_mW_group", "ima")
    tile_mm2 = total("area_mm2_group", "tile") + 12 * total("area_mm2_group", "ima")
    assert tile_mw == pytest.approx(329.81)
    assert tile_mm2 == pytest.approx(0.3723, rel=1e-3)
    found = peak(isaac())
    assert off(96 * found["power_w"] * 1e3, tile_mw) <= 1e-3
    assert off(96 * found["area_mm2"], tile_mm2) <= 1e-3
    assert off(found["chip_power_w"], 65.8) <= 1e-3
    assert off(found["chip_power_w"], 168 * tile_mw * 1e-3 + total("power_mW_group", "chip") * 1e-3) <= 1e-6
    assert off(found["chip_area_mm2"], 168 * tile_mm2 + total("area_mm2_group", "chip")) <= 1e-3
    assert off(found["chip_tops_per_w"] * 1e3, 627.5) <= 1e-3
    assert off(found["chip_tops_per_mm2"] * 1e3, 478.95) <= 1e-2
    assert off(found["chip_tops_per_mm2"] * 1e3, 483.5) <= 1e-3


def test_isaac_converts_once_a_multiply_accumulate() -> None:
    assert float(conversions_per_mac(16, 2, 16, 1, 128)) == 1.0
    design = isaac()
    assert float((design.conversions_per_output / design.rows)[0]) == 1.0
    cost = evaluate(design, Workload.of("Llama-3.2-1B"), Scenario(head=False))
    assert float(cost.conversions[0]) == cost.macs  # whole tiles of this model are all full


def hermes(phases: int) -> dict[str, float]:
    dac = {"mode": "pulse_width"} if phases == 1 else {"mode": "multi_phase", "phases": phases}
    weights = {} if phases == 1 else {"weights": {"subtract": "digital"}}
    design = Designs.of(Hardware.load({"base": "hermes-256", "dac": dac, **weights}), "hermes-14nm")
    return {key: float(value[0]) for key, value in peak(design).items()}


def test_the_hermes_chip_is_predicted_from_its_core() -> None:
    """Only the core's figures are in the profile; the chip's are only here."""
    core = hermes(1)
    assert off(core["tops_per_w"], 10.5) <= 1e-3
    assert off(core["tops_per_mm2"], 1.59) <= 1e-3
    assert off(core["product_ns"], 130.0) <= 1e-9
    assert off(core["chip_tops"], 63.1) <= 0.03
    assert off(core["chip_tops_per_w"], 9.76) <= 0.10
    four = hermes(4)
    assert off(four["chip_tops"], 16.1) <= 0.03
    assert off(four["chip_tops_per_w"], 2.48) <= 0.10


def test_neurram_within_ten_percent_at_every_point() -> None:
    name = "neurram_reference.csv"
    inputs, outputs = column(name, "input_bits"), column(name, "output_bits")
    two = np.array([row["phase"] == "two" for row in rows(name)])
    published = column(name, "paper_TOPS_48core_digitised")
    assert len(published) == 10
    pulses, bits, phases = neurram_counts(inputs, outputs, two)
    product_us = NEURRAM_PULSE_US * pulses + NEURRAM_BIT_US * (bits + phases)
    tops = 48 * 2 * 256 * 128 / product_us * 1e-6  # of its 48 cores, two operations a multiply-accumulate
    assert np.max(np.abs(tops / published - 1)) <= 0.10
    assert off(tops, column(name, "accelforge_TOPS_computed")) <= 1e-7  # computed there in single precision


def test_the_profile_neurram_130nm_is_that_chip() -> None:
    """Ten points through the general model; the energies are a fit, 17 % off at worst, as the profile says.

    A DAC has at least two bits, one of them the sign: the chip's first point, of one bit, has the same one pulse.
    """
    name = "neurram_reference.csv"
    inputs, outputs = column(name, "input_bits").astype(int), column(name, "output_bits").astype(int)
    phases = np.array([2 if row["phase"] == "two" else 1 for row in rows(name)])
    design = Designs.of(
        "reram-wan-256", "neurram-130nm", rows=128, dac_bits=inputs, adc_bits=outputs, phases=phases
    )
    found = peak(design)
    assert np.max(np.abs(found["chip_tops"] / column(name, "paper_TOPS_48core_digitised") - 1)) <= 0.10
    assert np.max(np.abs(found["chip_tops_per_w"] / column(name, "paper_TOPS_per_W(ref)") - 1)) <= 0.175


@pytest.mark.parametrize(
    "row", rows("llm_tiles_reference.csv"), ids=lambda row: "-".join(list(row.values())[:5])
)
def test_tile_counts_are_exact(row: dict[str, str]) -> None:
    head = row["lm_head_on_analog"] == "True"
    shapes = named_shapes(row["model"]).matrices(head=head)
    assert sum(matrix.weights for matrix in shapes) == int(row["analog_weights"])
    designs = Designs.of(
        "pcm-512", rows=int(row["rows"]), cols=int(row["cols"]), slices=int(row["columns_per_weight"])
    )
    cost = evaluate(designs, Workload.of(row["model"]), Scenario(head=head))
    assert int(cost.tiles[0]) == int(row["tiles"])
    assert float(cost.utilisation[0]) == pytest.approx(float(row["cell_utilization"]), abs=5.1e-5)
    found, full = tiles(shapes, int(row["rows"]), int(row["cols"]), int(row["columns_per_weight"]))
    assert (found, full) == (int(cost.tiles[0]), pytest.approx(float(cost.utilisation[0]), abs=1e-12))


@pytest.mark.parametrize(
    ("model", "count", "full"), [("Llama-3.2-1B", 3712, 1.0), ("SmolLM2-135M", 900, 0.45)]
)
def test_tiles_of_a_model_in_512_by_512(model: str, count: int, full: float) -> None:
    cost = evaluate(Designs.of("pcm-512"), Workload.of(model), Scenario(head=False))
    assert int(cost.tiles[0]) == count
    assert float(cost.utilisation[0]) == pytest.approx(full, abs=1e-9)


def test_tiles_of_many_shapes_at_once() -> None:
    counts, full = tiles([(576, 192), (576, 576, 2)], [512, 256], [512, 128], 1)
    assert counts.tolist() == [2 * 1 + 2 * 2 * 2, 3 * 2 + 2 * 3 * 5]
    assert full.shape == (2,)
    for bad in ([(576,)], [(0, 3)]):
        with pytest.raises(BadInput):
            tiles(bad, 512, 512)
    with pytest.raises(BadInput):
        tiles([(4, 4)], 0, 512)
    with pytest.raises(BadInput):
        tiles([(4, 4)], 512.5, 512)
